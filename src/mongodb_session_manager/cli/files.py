"""The files that an export is written into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .export import ENDINGS, Format


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a file for text, which takes the place of what is there only when the block has ended well.

    What is no file, such as a pipe or a device, is written to as it is; of a link, what it leads to is replaced.

    Raises:
        OSError: It cannot be written.
    """
    in_place = path.exists() and not path.is_file()
    path = path if in_place else path.resolve()
    written = path if in_place else path.with_name(f"{path.name}.part")
    try:
        with written.open("w", encoding="utf-8", errors="backslashreplace") as file:
            yield file
    except BaseException:
        if not in_place:
            written.unlink(missing_ok=True)
        raise
    if not in_place:
        written.replace(path)


def file_name(session_id: str, form: Format, taken: set[str]) -> str:
    """Return the name of a session's file, and add it to those that are taken.

    Different ids may be alike without the letters that file names do not hold; one of them gets a number then.
    """
    letters = (letter if letter.isalnum() or letter in "-_." else "-" for letter in session_id)
    name = "".join(letters).lstrip(".")[:80] or "session"
    number, candidate = 1, name
    # Some file systems do not tell capitals apart.
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(candidate.casefold())
    return f"{candidate}.{ENDINGS[form]}"
