"""Run folders and the store: addresses, checksums, the cache of downloads, and whether every node sees them."""
