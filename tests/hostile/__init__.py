"""Stores made to do harm, and what came of each: `python -m tests.hostile` prints the table.

`forge` writes what this library never would, `chunks`, `values`, `tables`, `indexes` and `folders`
have the cases, `watched` does everything with a store that people do with one, under a canary, and
`run` has processes for it and says what is wrong.
"""
