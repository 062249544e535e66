"""The deterministic trio loop: the only code that touches trio's private names."""
