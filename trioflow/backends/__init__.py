"""Stores: the contract they fulfil (`base`), and one module for each that there is."""
