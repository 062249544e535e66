"""Activities in processes of their own: a pool of them, what runs in one, and how they talk."""
