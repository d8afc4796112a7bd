"""Names of what a run folder holds for use."""

TRUNK, BASE, ROUTER, SPECIALISTS, MOE = "trunk", "base", "router", "specialists", "moe"
CARD = "splitray.json"  # what an exported model is, beside it
CHECKSUMS = "checksums.json"  # the SHA-256 of its files and the lineage of its weights
README, TRAINING_CONTENT = "README.md", "TRAINING_CONTENT.md"  # for people, who may complete them
DOCUMENTS = (README, TRAINING_CONTENT)
EVALUATION = "evaluation.json"  # losses of a merged model beside others
