"""Which record goes to which split, from metadata alone."""
