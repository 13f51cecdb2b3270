"""Who may use an embedded server: its owner, and not every user of the machine."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

USER = "embedded"
_KEY_FILE = "key"


@dataclass(frozen=True)
class Credentials:
    """Random secrets of one run of a server.

    Attributes:
        password: Of the user `embedded`, which may do everything.
        key: By which the members of the set know each other, and by which the first user is made.
    """

    password: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    key: str = field(default_factory=lambda: secrets.token_hex(48), repr=False)

    def store(self, folder: Path) -> Path:
        """Write the key where the server programs read it, for this user's eyes only; return where that is."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / _KEY_FILE
        # Anew: a file that is there already may be open to others.
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.key)
        return path
