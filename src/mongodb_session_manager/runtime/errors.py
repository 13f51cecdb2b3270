"""What goes wrong with a message, and what may be logged of it."""

from __future__ import annotations


class UnsendableError(Exception):
    """A message that the other end would never accept. Its text says why; it is logged, so it holds no content."""


def describe(error: BaseException) -> str:
    """Return what may be logged of an error: its type and code, not its message, which may quote what was sent."""
    if isinstance(error, UnsendableError):
        return f"{type(error).__name__}: {error}"
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return type(error).__name__ if code is None else f"{type(error).__name__}: {code}"
