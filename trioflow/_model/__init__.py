"""The model: frozen data that the layers above exchange, without I/O and without a loop."""
