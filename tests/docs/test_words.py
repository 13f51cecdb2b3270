"""The words of the project: plain English that names its subject, and errors of one shape, `invalid X: rule`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

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


FORMS = re.compile(
    r"invalid [^:]+: "  # the rule: what was given, and what it breaks
    r"|unknown argument "  # as Python says it, with the name that was meant
    r"|\w+\(\) takes "  # a call with other arguments than the function has; Python says it so
    r"|no MongoDB to connect to: "  # nothing was given at all
)
SETTING = "the setting's name is put before it"
REQUIRED = "a contract with models, which are told what to send"
CAUGHT = "it goes no further than the function, which raises what callers see"
EXCEPTIONS = {
    ("metadata_tool.py", "action is required."): REQUIRED,
    ("metadata_tool.py", "keys is required"): REQUIRED,
    ("metadata_tool.py", "metadata is required"): REQUIRED,
    ("metadata_tool.py", "Unknown action"): REQUIRED,
    ("migrate/records.py", "it takes"): "the report puts the session and the message before it",
    ("playground/settings.py", "it must be"): SETTING,
    ("schema/nested.py", "not the nodes"): "about what is stored; `decode` leaves such a value as it is",
    ("session/lifecycle.py", "agent {} was interrupted"): "about the order of calls; Strands raises this class for it",
    ("store/listing.py", "not a"): CAUGHT,
    ("viewer/filters.py", "{} is no JSON"): CAUGHT,
    ("viewer/prices.py", "it must be"): SETTING,
    ("viewer/timeline.py", "not a position"): CAUGHT,
    ("viewer/timeline.py", "too long"): CAUGHT,
    ("viewer/traces.py", "it must be"): SETTING,
    ("web/orders.py", "not a place"): CAUGHT,
    ("web/security.py", "it must hold"): SETTING,
}
"""Errors of another form than `FORMS`, by their module and beginning, and why."""


def shapeless(code: str, kinds: Iterable[str] = ("ValueError", "TypeError")) -> Iterator[str]:
    """Yield the errors about a value that have none of the `FORMS`; `kinds` are the classes of such errors."""
    tree, classes = ast.parse(code), frozenset(kinds)
    texts = {
        name: _text(value, {})
        for node in ast.walk(tree)
        for name, value in _assigned(node)
        if isinstance(value, ast.Constant | ast.JoinedStr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=kind), args=[message, *_]) if kind in classes:
                text = _text(message, texts)
                # What another function says has its shape there.
                if text != "{}" and not FORMS.match(text):
                    yield text


def kinds_of_errors(codes: Iterable[str]) -> frozenset[str]:
    """Return the classes of errors about a value: Python's two, and those derived from them that say what they get."""
    found = {"ValueError", "TypeError"}
    for node in (node for code in codes for node in ast.walk(ast.parse(code))):
        match node:
            case ast.ClassDef(name=name, bases=bases, body=body):
                own_text = any(isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in body)
                if not own_text and any(isinstance(base, ast.Name) and base.id in found for base in bases):
                    found.add(name)
    return frozenset(found)


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value


def _text(message: ast.expr, texts: Mapping[str, str]) -> str:
    match message:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value, texts) for value in values)
        case ast.Name(id=name) | ast.FormattedValue(value=ast.Name(id=name)):
            return texts.get(name, "{}")
        case _:
            return "{}"


def found(look: Callable[[Path], Iterable[str]], paths: Iterable[Path]) -> dict[str, list[str]]:
    """Return what was found, by file."""
    everything = {str(path.relative_to(ROOT)): list(look(path)) for path in paths}
    return {name: texts for name, texts in everything.items() if texts}


def test_words_name_their_subject() -> None:
    assert found(lambda path: unwanted(prose(path)), [*SOURCES, *SCRIPTS, *FRONT_ENDS, *PAGES]) == {}


def test_errors_about_a_value_have_one_shape() -> None:
    kinds = kinds_of_errors(path.read_text() for path in SOURCES)
    package = ROOT / "src" / "mongodb_session_manager"
    others = {(str(path.relative_to(package)), text) for path in SOURCES for text in shapeless(path.read_text(), kinds)}
    excused = {
        (name, text): (module, start)
        for name, text in others
        for module, start in EXCEPTIONS
        if name == module and text.startswith(start)
    }

    assert others - excused.keys() == set()
    assert EXCEPTIONS.keys() - excused.values() == set(), "exceptions that are no longer needed"


def test_unwanted_words_and_shapes_are_found() -> None:
    assert unwanted("Nobody knows, whoever asks: `mend` mends what\nis none that fits.") == [
        *("Nobody", "whoever", "mends", "is none that"),
    ]
    assert unwanted("a cursor that is none that a page ended with") == ["is none that"]


@pytest.mark.parametrize(
    ("code", "others"),
    [
        ('raise ValueError(f"ttl must be more than {0}")', ["ttl must be more than {}"]),
        ('raise TypeError(f"{name} takes no {thing}") from error', ["{} takes no {}"]),
        ('RULE = "it is odd"\nraise ValueError(RULE)', ["it is odd"]),
        ('def no(x):\n    rule = "it is odd"\n    return ValueError(f"{rule}, {x}")', ["it is odd, {}"]),
        ('class Odd(ValueError):\n    pass\nraise Odd("it is odd")', ["it is odd"]),
        ('raise ValueError("invalid ttl: it must be more than 0")', []),
        ('raise ValueError(f"invalid {name}: it must be more than 0")', []),
        ('raise TypeError(f"unknown argument {name!r}")', []),
        ("raise ValueError(str(error))", []),
        ('raise RuntimeError("it is odd")', []),
    ],
)
def test_errors_of_another_form_are_found(code: str, others: list[str]) -> None:
    assert list(shapeless(code, kinds_of_errors([code]))) == others
