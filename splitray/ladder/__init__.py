"""The ladder of small runs: its grid, its cost, and the table that the law is fitted on. No Ray."""
