"""What of Strands' storage this room builds on, and nothing else of it."""

from __future__ import annotations

from typing import Any

from strands.storage import Storage
from strands.storage.search import keyword
from strands.storage.storage import _NAMESPACED, StorageSearchResult
from strands.types.exceptions import StorageError

from .._strands import STOP_WORDS

__all__ = ["NAMESPACED", "STOP_WORDS", "Storage", "StorageError", "StorageSearchResult", "is_namespaced", "tokenize"]

NAMESPACED: object = _NAMESPACED
"""Strands' mark on a view that its subsystems are not to put their own prefix before."""

tokenize = keyword.tokenize


def is_namespaced(storage: Any) -> bool:
    """Tell whether a storage is a view that was given its prefix already."""
    return getattr(storage, "_namespaced", None) is NAMESPACED
