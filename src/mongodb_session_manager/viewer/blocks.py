"""Content blocks of stored messages as the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..web.plain import Plain, offloaded_size, text_or_none
from .block_schemas import (
    Block,
    CitationsBlock,
    FileBlock,
    ImageBlock,
    JsonBlock,
    ReasoningBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UnknownBlock,
)

RASTER_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
"""Kinds of images that browsers show and that cannot hold scripts."""

ImageAddress = Callable[[str], str]
"""Returns the address of an image of the message, by its place: `2`, or `3.0` for the first part of a tool's result."""

_SHOWN_BLOCKS = 500


class BlockReader:
    """Reads the content of one message; nothing in it is relied upon."""

    def __init__(self, plain: Plain, image_address: ImageAddress | None) -> None:
        """Read with `plain`'s limits; without `image_address` images have none."""
        self._plain = plain
        self._image_address = image_address

    def blocks(self, content: object, place: str = "") -> list[Block]:
        """Return the blocks of a content, whatever it is."""
        if isinstance(content, str):
            return [self._plain_text(content)]
        if not isinstance(content, list | tuple):
            return [UnknownBlock(value=self._plain.value(content))]
        shown = [self._block(block, f"{place}{index}") for index, block in enumerate(content[:_SHOWN_BLOCKS])]
        if len(content) > len(shown):
            self._plain.cut = True
            shown.append(UnknownBlock(value=f"… (+{len(content) - len(shown)} blocks)"))
        return shown

    def _block(self, block: object, place: str) -> Block:
        if isinstance(block, str):
            return self._plain_text(block)
        if isinstance(block, Mapping):
            for key, reader in _READERS.items():
                if key in block:
                    found = reader(self, block[key], place)
                    if found is not None:
                        return found
        return UnknownBlock(value=self._plain.value(block))

    def _plain_text(self, value: str) -> Block:
        text, cut = self._plain.text(value)
        return TextBlock(text=text, cut=cut)

    def _text(self, value: object, place: str) -> Block | None:
        return self._plain_text(value) if isinstance(value, str) else None

    def _json(self, value: object, place: str) -> Block:
        return JsonBlock(value=self._plain.value(value))

    def _tool_use(self, value: object, place: str) -> Block | None:
        if not isinstance(value, Mapping):
            return None
        return ToolUseBlock(
            tool_use_id=self._label(value.get("toolUseId")),
            name=self._label(value.get("name")),
            input=self._plain.value(value.get("input")),
        )

    def _tool_result(self, value: object, place: str) -> Block | None:
        if not isinstance(value, Mapping):
            return None
        return ToolResultBlock(
            tool_use_id=self._label(value.get("toolUseId")),
            status=self._label(value.get("status")),
            content=self.blocks(value.get("content") or [], f"{place}."),
        )

    def _reasoning(self, value: object, place: str) -> Block | None:
        if not isinstance(value, Mapping):
            return None
        said = value.get("reasoningText")
        if isinstance(said, Mapping) and isinstance(said.get("text"), str):
            text, cut = self._plain.text(said["text"])
            return ReasoningBlock(text=text, cut=cut)
        return ReasoningBlock(text="", hidden=True) if "redactedContent" in value else None

    def _image(self, value: object, place: str) -> Block | None:
        if not isinstance(value, Mapping):
            return None
        kind, size, source = self._file(value)
        shown = size is not None and kind.lower() in RASTER_TYPES and self._image_address is not None
        address = self._image_address(place) if shown and self._image_address is not None else None
        return ImageBlock(format=kind, size=size, url=address, source=source)

    def _document(self, value: object, place: str) -> Block | None:
        return self._named_file("document", value)

    def _video(self, value: object, place: str) -> Block | None:
        return self._named_file("video", value)

    def _audio(self, value: object, place: str) -> Block | None:
        return self._named_file("audio", value)

    def _named_file(self, kind: Any, value: object) -> Block | None:
        if not isinstance(value, Mapping):
            return None
        format_, size, source = self._file(value)
        return FileBlock(type=kind, format=format_, name=text_or_none(value.get("name")), size=size, source=source)

    def _file(self, value: Mapping[str, Any]) -> tuple[str, int | None, str | None]:
        """Return the format, the size of the bytes that are stored, and where they are when they are elsewhere."""
        source = value.get("source")
        held = source.get("bytes") if isinstance(source, Mapping) else None
        size = len(held) if isinstance(held, bytes | bytearray) else offloaded_size(held)
        elsewhere: str | None = None
        if size is None and isinstance(source, Mapping):
            location = source.get("location")
            found = location.get("uri") if isinstance(location, Mapping) else source.get("url")
            elsewhere = self._label(found) if isinstance(found, str) else None
        return self._label(value.get("format")), size, elsewhere

    def _guard_content(self, value: object, place: str) -> Block | None:
        said = value.get("text") if isinstance(value, Mapping) else None
        if isinstance(said, Mapping):
            said = said.get("text")
        if not isinstance(said, str):
            return None
        text, cut = self._plain.text(said)
        return TextBlock(type="guard_content", text=text, cut=cut)

    def _citations(self, value: object, place: str) -> Block | None:
        if not isinstance(value, Mapping):
            return None
        parts = value.get("content")
        texts = [part.get("text") for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
        text, cut = self._plain.text("".join(part for part in texts if isinstance(part, str)))
        return CitationsBlock(text=text, citations=self._plain.value(value.get("citations")), cut=cut)

    def _label(self, value: object) -> str:
        if value is None:
            return ""
        text, _ = self._plain.text(value)
        return text[:500]


_READERS: dict[str, Callable[[BlockReader, object, str], Block | None]] = {
    "text": BlockReader._text,
    "toolUse": BlockReader._tool_use,
    "toolResult": BlockReader._tool_result,
    "reasoningContent": BlockReader._reasoning,
    "image": BlockReader._image,
    "document": BlockReader._document,
    "video": BlockReader._video,
    "audio": BlockReader._audio,
    "json": BlockReader._json,
    "guardContent": BlockReader._guard_content,
    "citationsContent": BlockReader._citations,
}


def image_at(content: object, place: str) -> tuple[str, bytes] | None:
    """Return the format and the bytes of the image at a place of a message's content, None when there is none."""
    node = content
    parts = place.split(".")
    for depth, part in enumerate(parts):
        if not part.isascii() or not part.isdigit() or len(part) > 6 or not isinstance(node, list | tuple):
            return None
        if int(part) >= len(node):
            return None
        node = node[int(part)]
        if depth < len(parts) - 1:
            result = node.get("toolResult") if isinstance(node, Mapping) else None
            node = result.get("content") if isinstance(result, Mapping) else None
    image = node.get("image") if isinstance(node, Mapping) else None
    source = image.get("source") if isinstance(image, Mapping) else None
    held = source.get("bytes") if isinstance(source, Mapping) else None
    if not isinstance(image, Mapping) or not isinstance(held, bytes | bytearray):
        return None
    format_ = image.get("format")
    return format_ if isinstance(format_, str) else "", bytes(held)


def raster_type(data: bytes) -> str | None:
    """Return the media type of an image by its first bytes, None for everything that is no raster image."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None
