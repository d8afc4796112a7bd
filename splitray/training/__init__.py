"""Training: the tree of segments, the loop that trains one, and the Ray hosts that run the loop."""
