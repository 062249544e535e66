"""Encoding: values, failures and the arguments of calls as stored bytes, and back."""
