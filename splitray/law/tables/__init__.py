"""Reading a table of runs: the file, the names in it, and values that cannot be meant."""
