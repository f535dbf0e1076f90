"""Single cases of a run: which to look at, and one of them in full."""
