"""Values, failures and signatures: how what users write becomes bytes, and comes back."""
