"""Repair: make a damaged store whole again, of all that can still be proven right."""

from sqlstore.maintenance.repair.repaired import Repaired
from sqlstore.maintenance.repair.repairing import repair

__all__ = ["Repaired", "repair"]
