"""The hooks' former argument names."""

from __future__ import annotations

import sys
import warnings
from typing import Any

_CURRENT = {"metadataHook": "metadata_hook", "feedbackHook": "feedback_hook"}
_PACKAGE = __name__.partition(".")[0]


def current_names(options: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Return `options` and `given` with former names replaced, and warn of those at the line that used them.

    Raises:
        ValueError: A hook has both its names.
    """
    named = options | given
    for old, new in _CURRENT.items():
        if old not in named:
            continue
        warnings.warn(f"{old} is the old name of {new}", DeprecationWarning, stacklevel=_level_of_caller())
        former = named.pop(old)
        if former is not None and named.get(new) is not None:
            raise ValueError(f"invalid {new}: it and its old name {old} are both given")
        if former is not None or new not in named:
            named[new] = former
    return named


def _level_of_caller() -> int:
    # A factory or a function in between would otherwise be blamed, and warnings about library code are not shown.
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    return level
