"""What a schema looks like that records themselves suggest; `docs/schema.md` has the rules."""

from sqlstore.inference.infer import FIRST, completed, infer
from sqlstore.inference.sample import peeked

__all__ = ["FIRST", "completed", "infer", "peeked"]
