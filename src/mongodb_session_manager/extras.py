"""Optional dependencies: which extra brings what is missing, and from where this package was installed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

DISTRIBUTION = "mongodb-session-manager"


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


def missing(extra: str, module: str | None, what: str | None = None) -> ImportError:
    """Return the error for a module that is not installed; `what` needs it, or else what the extra is for."""
    what = what or f"the extra {extra!r} of {DISTRIBUTION}"
    return ImportError(
        f"{what} needs {module}, which is not installed; install it with: {install_command(extra)}", name=module
    )


def install_command(extra: str) -> str:
    """Return the command that installs an extra from where this package was installed: index, folder, file or clone."""
    origin = _origin()
    url = str(origin.get("url", ""))
    if "dir_info" in origin:
        folder = shlex.quote(f"{Path(url2pathname(unquote(urlsplit(url).path)))}[{extra}]")
        return f"pip install {'-e ' if origin['dir_info'].get('editable') else ''}{folder}"
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        revision = f"@{vcs['requested_revision']}" if vcs.get("requested_revision") else ""
        return "pip install " + shlex.quote(f"{DISTRIBUTION}[{extra}] @ {vcs['vcs']}+{_public(url)}{revision}")
    if url:
        return "pip install " + shlex.quote(f"{DISTRIBUTION}[{extra}] @ {_public(url)}")
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def _origin() -> dict[str, Any]:
    """Return what pip noted of a direct installation (PEP 610); nothing for one from an index."""
    try:
        text = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        found = json.loads(text or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _public(url: str) -> str:
    """Return an address without the user and password that it may hold."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
