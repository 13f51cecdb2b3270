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
    code = error_code(error)
    return type(error).__name__ if code is None else f"{type(error).__name__}: {code}"


def error_code(error: BaseException) -> str | None:
    """Return the code that a service gave an error, None where it gave none, or what can be none."""
    response = getattr(error, "response", None)
    told = response.get("Error") if isinstance(response, dict) else None
    code = told.get("Code") if isinstance(told, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None
