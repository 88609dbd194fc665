"""One module a framework: `run` sends its requests and returns the keys, `EXPECTED` says which they must be."""
