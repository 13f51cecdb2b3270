"""On which addresses a server may listen, and which of them only this machine can reach."""

from __future__ import annotations

import ipaddress
import unicodedata

MIN_PASSWORD_LENGTH = 12
"""Characters that a password needs, blanks and invisible ones not counted."""


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own: `localhost`, `127.0.0.0/8` or `::1`."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def check_binding(host: str, password: str | None, *, host_setting: str, password_setting: str) -> None:
    """Refuse a password that can be guessed, and to listen without one where others can reach the server.

    Args:
        host: Where the server is to listen.
        password: What protects it, None or empty for nothing.
        host_setting: How the user names the host, for the message.
        password_setting: How the user names the password, for the message.

    Raises:
        ValueError: The password is too short, wherever the server listens, or it is missing on an address that others
            can reach.
    """
    if password:
        said = sum(1 for character in password if unicodedata.category(character)[0] not in "ZC")
        if said < MIN_PASSWORD_LENGTH:
            raise ValueError(
                f"invalid {password_setting}: it must have at least {MIN_PASSWORD_LENGTH} characters that are not "
                f"blanks (it has {said}); take a random one"
            )
    elif not is_loopback(host):
        raise ValueError(
            f"invalid {host_setting}: {host} can be reached from other machines, so {password_setting} must have at "
            f"least {MIN_PASSWORD_LENGTH} characters (it has none); set one, or use {host_setting}=127.0.0.1"
        )
