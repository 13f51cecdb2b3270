"""Invented conversations to look at, stored by real agents through the library."""

from .store import store_samples
from .stories import ENUM_FIELDS

__all__ = ["ENUM_FIELDS", "store_samples"]
