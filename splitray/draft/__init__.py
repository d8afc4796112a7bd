"""A first configuration from a folder of text: what it holds, what fits into it and into the time there is."""
