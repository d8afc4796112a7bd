"""Specialists behind an OpenAI-style API, on Ray Serve."""
