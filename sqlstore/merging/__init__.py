"""Stores that were written apart become one."""
