"""Arguments and results by a function's annotations."""
