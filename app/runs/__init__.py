"""Use cases: what a caller can do with runs, without HTTP."""
