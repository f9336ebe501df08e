"""Damage of every kind to a small store: what is read is right, or an error says where it is not.

`python -m tests.fuzz` tries every bit and every length of its chunks, and as many places of the
index as ``SQLSTORE_CASES`` says.
"""
