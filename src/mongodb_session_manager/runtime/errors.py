"""What goes wrong with a message, and what may be logged of it."""

from __future__ import annotations

import re

# What services call their errors. Anything else a server may have made up, a line of the log among it.
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class UnsendableError(Exception):
    """A message that the other end would never accept. Its text says why; it is logged, so it holds no content."""


def describe(error: BaseException) -> str:
    """Return what may be logged of an error: its type and code, not its message, which may quote what was sent."""
    if isinstance(error, UnsendableError):
        return f"{type(error).__name__}: {error}"
    response = getattr(error, "response", None)
    told = response.get("Error") if isinstance(response, dict) else None
    code = told.get("Code") if isinstance(told, dict) else None
    is_code = isinstance(code, str) and _CODE.fullmatch(code)
    return f"{type(error).__name__}: {code}" if is_code else type(error).__name__
