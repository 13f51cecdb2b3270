"""Hooks: user code around metadata and feedback operations.

A hook is ``hook(original_func, action, session_id, **kwargs)``. It decides whether, when and with what the stored
operation runs, by calling ``original_func``; what it returns is what the caller gets, and what it raises reaches the
caller. Actions and their keyword: ``update`` (``metadata``), ``get`` (none), ``delete`` (``keys``), ``add``
(``feedback``).

Nothing here knows MongoDB: the operation that is wrapped is handed in.
"""

from __future__ import annotations

from .audit import audit_hook
from .cache import CachedMetadata
from .chain import apply as apply
from .chain import apply_blocking as apply_blocking
from .chain import chain_hooks
from .chain import flatten as flatten
from .invocation import Hook
from .old_names import current_names as current_names
from .redaction import redact_fields
from .validation import validate_metadata

# What users need; the rest is for the managers and factories.
__all__ = ["CachedMetadata", "Hook", "audit_hook", "chain_hooks", "redact_fields", "validate_metadata"]
