"""The benchmark of reading: one way to keep records per module in `systems`, all asked the same."""
