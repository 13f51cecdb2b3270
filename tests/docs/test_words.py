"""The words of the project: plain English that names its subject, and errors of one shape, `invalid X: rule`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.docs.blocks import DOCS, ROOT

SOURCES = sorted((ROOT / "src").rglob("*.py"))
SCRIPTS = [*(ROOT / "examples").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / ".ci").glob("*.py")]
FRONT_ENDS = [path for kind in ("*.js", "*.html", "*.css") for path in (ROOT / "src").rglob(kind)]
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "Makefile"]

UNWANTED = re.compile(r"\b(nobody(?:'s)?|whoever|whomever|mend(?:s|ing)?|(?:is|are) none that)\b", re.IGNORECASE)
_CODE = re.compile(r"``?[^`\n]+``?")


def unwanted(text: str) -> list[str]:
    """Return the words that the project does without; names in backticks are what they are."""
    return UNWANTED.findall(_CODE.sub("", text))


def prose(path: Path) -> str:
    """Return what people read of a file: of Python its comments and texts, docstrings and errors among them."""
    if path.suffix != ".py":
        return path.read_text()
    kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
    return "\n".join(
        token.string
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type in kinds
    )


def shapeless(code: str) -> Iterator[str]:
    """Yield the errors about a value that do not say `invalid X: rule`."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(id="ValueError" | "TypeError"), args=[message, *_])):
                text = _text(message)
                if re.match(r"(?:a |an |the )?[a-z_]+(?: [a-z]+)? must\b", text):
                    yield text


def _text(message: ast.expr) -> str:
    match message:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value) for value in values)
        case _:
            return "{}"


def found(look: Callable[[Path], Iterable[str]], paths: Iterable[Path]) -> dict[str, list[str]]:
    """Return what was found, by file."""
    everything = {str(path.relative_to(ROOT)): list(look(path)) for path in paths}
    return {name: texts for name, texts in everything.items() if texts}


def test_words_name_their_subject() -> None:
    assert found(lambda path: unwanted(prose(path)), [*SOURCES, *SCRIPTS, *FRONT_ENDS, *PAGES]) == {}


def test_errors_about_a_value_have_one_shape() -> None:
    assert found(lambda path: shapeless(path.read_text()), SOURCES) == {}


def test_unwanted_words_and_shapes_are_found() -> None:
    assert unwanted("Nobody knows, whoever asks: `mend` mends what\nis none that fits.") == [
        *("Nobody", "whoever", "mends", "is none that"),
    ]
    assert unwanted("a cursor that is none that a page ended with") == ["is none that"]
    assert list(shapeless('raise ValueError(f"ttl must be more than {0}")')) == ["ttl must be more than {}"]
    assert list(shapeless('raise ValueError("invalid ttl: it must be more than 0")')) == []
