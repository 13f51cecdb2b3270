"""The standard streams of the command line: closed ones, full disks, readers that leave, encodings of few letters."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper

_ESCAPES = "mongodb_session_manager_escapes"


@contextmanager
def standard_streams() -> Iterator[None]:
    """Have the streams take every text, and tell of what cannot be written before Python complains at its end.

    After the block they treat what their encodings do not know as before.

    Raises:
        SystemExit: Always, with the block's exit code; 1 when the block has not failed and its output could not be
            written. A reader who left is no failure.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # The caller has closed it, as some schedulers do.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    codecs.register_error(_ESCAPES, _escaped)
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, TextIOWrapper)]
    former = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors=_ESCAPES)
    code: object = 0
    try:
        try:
            yield
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if code in (0, None) and not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"error: {error}\n")
            code = 1
    finally:
        for stream, errors in zip(streams, former, strict=True):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)
    raise SystemExit(code)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Return what an encoding does not know as JSON escapes it, so that a document stays one in every encoding."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end
