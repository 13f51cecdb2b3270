"""Where the trace of an answer is to be seen, as the operator says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_PLACE = "{trace_id}"
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_ADDRESS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%{}-]+")
_LONGEST = 2048


@dataclass(frozen=True)
class Traces:
    """The address of traces.

    Attributes:
        template: An address with `{trace_id}` in it, None for none.
    """

    template: str | None = None

    @classmethod
    def parse(cls, text: str) -> Traces:
        """Read an address such as `https://host/trace/{trace_id}`; empty for none.

        Raises:
            ValueError: It is something else.
        """
        text = text.strip()
        if not text:
            return cls()
        problem = "it must be an http or https address such as https://host/trace/{trace_id}, without a password"
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError:
            raise ValueError(problem) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError(problem)
        if len(text) > _LONGEST or not _ADDRESS.fullmatch(text):
            raise ValueError(f"{problem}, of at most {_LONGEST} characters that an address may have")
        if _PLACE not in text or _PLACE in parts.netloc or re.search("[{}]", text.replace(_PLACE, "")):
            raise ValueError(f"{problem}; {_PLACE} stands behind the host, and no other braces do")
        return cls(text)

    def address(self, trace_id: str | None) -> str | None:
        """Return the address of a trace, None without one."""
        return None if trace_id is None or self.template is None else self.template.replace(_PLACE, trace_id)


def trace_id_of(item: object) -> str | None:
    """Return the trace id that a stored item names; None where what stands there is none."""
    return item if isinstance(item, str) and _TRACE_ID.fullmatch(item) else None
