"""The version of this library, for people and for what it writes."""

__version__ = "0.1.0"
