"""The one SQL implementation of the store contract; a database adds a `Dialect` and its schema."""
