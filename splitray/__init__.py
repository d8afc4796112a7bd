"""splitray: how many tokens belong before the split into per-domain specialist language models."""

__version__ = "0.1.0"
