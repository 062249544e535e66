"""Instances that a worker holds: stepping them and committing their turns."""
