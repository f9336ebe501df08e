"""Records as files that other programs read, and as a store of their own.

Everything appears under its name when it is complete: whatever happens in between leaves what was
there before, or nothing.
"""
