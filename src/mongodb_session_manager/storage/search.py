"""Search in a storage: by a text index where there is one, else by reading the values, a few at a time.

What is found, and how it ranks without an index, is as in Strands' own storages: a value scores one for each word of
the query that its text holds, or its key without the extension.
"""

from __future__ import annotations

import asyncio
import codecs
import heapq
import re
from collections.abc import AsyncIterator

from .contract import STOP_WORDS, StorageSearchResult, tokenize

MAX_RESULTS = 1000
"""Most results of a search, the best ones."""

AT_ONCE = 4
"""Values that a search without an index reads, and has in memory, at a time."""

MAX_TEXT_BYTES = 1024 * 1024
"""Longest text that is put into the text index; of a longer one its beginning is."""

_HERE_BYTES = 64 * 1024
"""Values up to this size are searched on the event loop, larger ones in a thread."""

_PIECE_BYTES = 1024 * 1024
_EXTENSION = re.compile(r"(?<=[^/])\.[^./]*$")
_LONGEST_WORD = 1000


def words_of(query: str) -> set[str]:
    """Return the words that a query looks for; none: it finds nothing."""
    return tokenize(query) - STOP_WORDS


def indexed_text(key: str, data: bytes) -> str | None:
    """Return what a text index is to find a value by, None for one that is no text."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data[:MAX_TEXT_BYTES])
        if len(data) <= MAX_TEXT_BYTES:
            text = data.decode()
    except UnicodeDecodeError:
        return None
    # Its own name only: the folders before it may be another view's.
    return f"{_stem(key.rpartition('/')[2])}\n{text}".replace("\0", " ")


async def scan(values: AsyncIterator[tuple[str, bytes]], words: set[str], namespace: str) -> list[StorageSearchResult]:
    """Score each value by the words that it holds, and return the best, ranked; without their data.

    Args:
        values: Keys and values, in the order of the keys.
        words: What is looked for.
        namespace: What stands before each key and is not part of it.
    """
    best: list[tuple[int, int, str]] = []
    position = 0
    async for full_key, data in values:
        key = full_key[len(namespace) :]
        if len(data) <= _HERE_BYTES:
            score = _score(key, data, words)
        else:
            score = await asyncio.to_thread(_score, key, data, words)
        if score:
            position -= 1
            heapq.heappush(best, (score, position, key))
            if len(best) > MAX_RESULTS:
                heapq.heappop(best)
    return [StorageSearchResult(key=key, score=score) for score, _, key in sorted(best, reverse=True)]


def _score(key: str, data: bytes, words: set[str]) -> int:
    found = words & tokenize(_stem(key))
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    for start in range(0, len(data), _PIECE_BYTES):
        text = rest + decoder.decode(data[start : start + _PIECE_BYTES])
        # A word at the end of a piece may go on in the next one.
        end = len(text)
        while end > 0 and len(text) - end < _LONGEST_WORD and (text[end - 1].isalnum() or text[end - 1] == "_"):
            end -= 1
        text, rest = text[:end], text[end:]
        found |= words & tokenize(text)
        if len(found) == len(words):
            return len(found)
    found |= words & tokenize(rest)
    return len(found)


def _stem(key: str) -> str:
    return _EXTENSION.sub("", key)
