"""Measurements: ``python -m benchmarks --help``. Nothing here is timed inside a test."""
