"""Retrieval: what was fetched, how good it was, and whether the index is still true. Import its modules directly."""
