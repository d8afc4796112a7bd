"""What a study shows: curves, the compute-effectiveness gap, the law's view of it, advice. No Ray, no torch."""
