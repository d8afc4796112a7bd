"""Names of what a run folder holds for use."""

TRUNK, BASE, ROUTER, SPECIALISTS = "trunk", "base", "router", "specialists"
CARD = "splitray.json"  # what an exported model is, beside it
