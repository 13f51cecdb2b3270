"""Finding a text literally in each of Unicode's equivalent forms: an "é" may be stored as one or two characters."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache

_MOST_FORMS = 64
"""Most forms of one character with its marks; more than three marks may be stored in other orders than these."""


def any_form(text: str) -> str:
    """Return the regular expression that finds a text in every canonically equivalent form, and nothing else."""
    if text.isascii():
        return re.escape(text)
    return "".join(_alternatives(cluster) for cluster in _clusters(unicodedata.normalize("NFC", _encodable(text))))


def _encodable(text: str) -> str:
    # A lone surrogate is in no stored text, and a replacement in none that is meant.
    return text.encode("utf-8", "replace").decode()


def _clusters(text: str) -> Iterator[str]:
    """Yield characters with the marks that follow them."""
    cluster = ""
    for character in text:
        if cluster and not unicodedata.combining(character):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def _alternatives(cluster: str) -> str:
    if cluster.isascii():
        return re.escape(cluster)
    # The longest first, so that a mark is never left over.
    forms = sorted(_forms(cluster), key=lambda form: (-len(form), form))
    if len(forms) == 1:
        return re.escape(forms[0])
    return "(?:" + "|".join(re.escape(form) for form in forms) + ")"


def _forms(cluster: str) -> set[str]:
    decomposed = unicodedata.normalize("NFD", cluster)
    starters = "".join(itertools.takewhile(lambda character: not unicodedata.combining(character), decomposed))
    marks = decomposed[len(starters) :]
    orders = {"".join(order) for order in itertools.permutations(marks)} if len(marks) <= 3 else {marks}
    found = {cluster, decomposed}
    for order in sorted(orders):
        if unicodedata.normalize("NFD", starters + order) != decomposed:
            continue  # marks on the same side of a letter have an order
        for composed in range(len(order) + 1):
            first = unicodedata.normalize("NFC", starters + order[:composed])
            found.add(first + order[composed:])
            found.update(same + order[composed:] for same in _same().get(first, ()))
    if len(found) > _MOST_FORMS:
        return {cluster, decomposed}
    return {form for form in found if unicodedata.normalize("NFD", form) == decomposed}


@cache
def _same() -> Mapping[str, tuple[str, ...]]:
    """Return the characters that are another one by definition, such as the sign for Angstrom, by that other one."""
    found: dict[str, tuple[str, ...]] = {}
    # Below U+0340 there are none, above U+2FA1D neither.
    for code in range(0x0340, 0x2FA1E):
        character = chr(code)
        normal = unicodedata.normalize("NFC", character)
        if normal != character:
            found[normal] = (*found.get(normal, ()), character)
    return found
