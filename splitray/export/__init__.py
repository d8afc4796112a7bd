"""Specialists and their base, as models that `transformers` loads."""
