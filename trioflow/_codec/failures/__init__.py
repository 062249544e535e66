"""Exceptions as stored data."""
