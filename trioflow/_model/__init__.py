"""Facts: frozen data that the layers above exchange. Nothing here does I/O or knows a loop."""
