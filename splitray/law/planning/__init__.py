"""Planning: the best split of a budget by a law, its threshold, its multiplier, and what to run next."""
