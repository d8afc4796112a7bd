"""The search over the split fraction that the law guides."""
