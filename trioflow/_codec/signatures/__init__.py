"""Call signatures: encoding of arguments and results by a function's annotations."""
