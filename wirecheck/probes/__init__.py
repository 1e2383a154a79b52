"""The registry: every probe there is, in the order they run. Two literal tuples, nothing registers itself."""
