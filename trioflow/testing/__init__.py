"""What users of trioflow test with, and what we use ourselves."""
