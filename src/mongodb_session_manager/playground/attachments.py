"""Images and documents that a user attaches: checked by what they are, not by what they are called."""

from __future__ import annotations

import base64
import binascii
import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from ..web.plain import storable_text

MOST_FILES = 8
MOST_BYTES = 4_500_000
"""Bytes of one file; what providers of models take at most."""
MOST_BYTES_TOGETHER = 7_000_000
"""Bytes of all files of a message: as text in a request, a third more."""

MEDIA_TYPES: Final = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv",
    "html": "text/html",
    "md": "text/markdown",
    "txt": "text/plain",
}
"""Media type of each format that models take, images first."""

IMAGES = frozenset(("png", "jpeg", "gif", "webp"))
_TEXTS = frozenset(("csv", "html", "md", "txt"))
_ENDINGS = {"htm": "html", "markdown": "md"}
_OFFICE = {"docx": "word/document.xml", "xlsx": "xl/workbook.xml"}
_MEMBER = b"PK\x01\x02"
_MOST_MEMBERS = 2_000
_SPACES = re.compile(r"\s+")
_NOT_IN_NAMES = re.compile(r"[^\w\s\-()\[\]]|_")
_LONGEST_NAME = 100


def content_blocks(files: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return what a message holds of attached files: Strands' `image` and `document` blocks.

    Args:
        files: Name and content, the latter as base64, of each.

    Raises:
        ValueError: A file is of a type that models do not take, or too large; the message names the file.
    """
    blocks: list[dict[str, Any]] = []
    names: set[str] = set()
    together = 0
    for name, data in files:
        shown = PurePosixPath(name.replace("\\", "/")).name[:_LONGEST_NAME] or "file"
        content = _decoded(shown, data)
        together += len(content)
        if together > MOST_BYTES_TOGETHER:
            raise ValueError(f"invalid file {shown!r}: all files together have at most {MOST_BYTES_TOGETHER:,} bytes")
        format_ = _format_of(shown, content)
        source = {"bytes": content}
        if format_ in IMAGES:
            blocks.append({"image": {"format": format_, "source": source}})
        else:
            title = _document_name(shown, names)
            blocks.append({"document": {"format": format_, "name": title, "source": source}})
    return blocks


def file_of(content: object, place: int) -> tuple[str, str, bytes] | None:
    """Return name, format and bytes of the file in a block of a stored message; None when there is none.

    Args:
        content: The message's content.
        place: The block's position.
    """
    if not isinstance(content, Sequence) or isinstance(content, str) or not 0 <= place < len(content):
        return None
    match content[place]:
        case {"image": {"format": str(format_), "source": {"bytes": bytes(data)}}} if format_ in IMAGES:
            return f"image-{place + 1}", format_, data
        case {"document": {"format": str(format_), "name": str(name), "source": {"bytes": bytes(data)}}}:
            # Both become part of a header, and may be another program's.
            return storable_text(name)[:_LONGEST_NAME], storable_text(format_)[:_LONGEST_NAME], data
    return None


def _decoded(name: str, data: str) -> bytes:
    if len(data) > MOST_BYTES * 4 // 3 + 4:
        raise ValueError(f"invalid file {name!r}: it must have at most {MOST_BYTES:,} bytes")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"invalid file {name!r}: its content must be base64") from None
    if not content:
        raise ValueError(f"invalid file {name!r}: it must not be empty")
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"invalid file {name!r}: it must have at most {MOST_BYTES:,} bytes, this one has {len(content):,}"
        )
    return content


def _format_of(name: str, content: bytes) -> str:
    """Return the format that the content shows; among texts the name tells."""
    if (format_ := _by_signature(content)) is not None:
        return format_
    ending = name.rpartition(".")[2].lower()
    ending = _ENDINGS.get(ending, ending)
    if ending in _TEXTS and _is_text(content):
        return ending
    if ending not in MEDIA_TYPES and _is_text(content):
        return "txt"  # source code, logs, settings
    raise ValueError(f"invalid file {name!r}: it must be {', '.join(MEDIA_TYPES)} or other text")


def _by_signature(content: bytes) -> str | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "webp"
    if content.startswith(b"%PDF-"):
        return "pdf"
    if content.startswith(b"PK\x03\x04"):
        return _office_format(content)
    return None


def _office_format(content: bytes) -> str | None:
    if content.count(_MEMBER) > _MOST_MEMBERS:
        return None  # to list them would take seconds
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return None
    return next((format_ for format_, member in _OFFICE.items() if member in members), None)


def _is_text(content: bytes) -> bool:
    if b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _document_name(name: str, taken: set[str]) -> str:
    """Return a name as Bedrock takes it: letters, digits, single spaces, hyphens and brackets; none twice."""
    stem = name.rpartition(".")[0] or name
    ascii_only = stem.encode("ascii", "ignore").decode()
    title = _SPACES.sub(" ", _NOT_IN_NAMES.sub(" ", ascii_only)).strip() or "document"
    number, found = 1, title
    while found in taken:
        number += 1
        found = f"{title} ({number})"
    taken.add(found)
    return found
