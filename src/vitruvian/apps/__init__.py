"""Applications: a configuration record and one function each."""
