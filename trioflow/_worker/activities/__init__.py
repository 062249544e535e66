"""Activities that a worker runs: capacity, attempts, threads, cancellation."""
