"""Evaluation: losses by document, the loss matrix, routed loss and the equal-token comparison."""
