"""The engine: runs workflow functions deterministically. It does no I/O and knows no store.

``loop`` steps a private trio scheduler, ``execution`` folds turns over it, ``replay`` compares,
``guard*`` keeps workflow code from what cannot be repeated.
"""
