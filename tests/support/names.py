"""A DNS that knows nothing."""

from __future__ import annotations

from typing import NoReturn

import dns.resolver


def unknown_to_dns(*arguments: object, **options: object) -> NoReturn:
    """Answer as DNS does for a name that does not exist; in the place of `dns.resolver.resolve`."""
    raise dns.resolver.NXDOMAIN


UNKNOWN = "nowhere.example.invalid"
