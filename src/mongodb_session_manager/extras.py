"""Optional dependencies: which extra brings what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Run imports that an extra brings, and name it when one of them fails.

    Raises:
        ImportError: A module is not installed; it says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing(extra, error.name) from error


def missing(extra: str, module: str | None, what: str = "this") -> ImportError:
    """Return the error for a module that is not installed."""
    return ImportError(
        f"{what} needs {module}, which is not installed; install it with: "
        f"pip install 'mongodb-session-manager[{extra}]'",
        name=module,
    )
