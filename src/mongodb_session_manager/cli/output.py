"""What commands print: tables for people, tab-separated lines for pipes, JSON for programs."""

from __future__ import annotations

import base64
import json
import math
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..exported import one_line
from ..schema.numbers import digits, is_too_long
from .signals import asking

Row = Sequence[object]


class Output:
    """Prints results to standard output, and everything else to standard error.

    On a terminal tables fit its width. In a pipe they are lines with tabs, whole. With `--json` there is one document
    and nothing else. Stored text never reaches a terminal with its control characters.
    """

    def __init__(self, *, as_json: bool) -> None:
        """Print as JSON, or for people."""
        self.as_json = as_json
        self._warned: set[str] = set()
        self._console = Console(highlight=False)
        self._errors = Console(stderr=True, highlight=False)

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads the results."""
        return self._console.is_terminal and not self.as_json

    def document(self, value: Any) -> None:
        """Print one JSON document; without `--json` nothing."""
        if self.as_json:
            _write(json_text(value) + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Row], *, wide: str = "") -> None:
        """Print a table; with `--json` nothing. On a terminal too narrow for it, each row is names and values.

        Args:
            columns: Their titles.
            rows: Their cells.
            wide: The column that is cut, or left out, when the terminal is narrow.
        """
        if self.as_json:
            return
        if not self.is_terminal:
            for row in [columns, *rows]:
                self.line("\t".join(shown(cell) for cell in row))
            return
        texts = [[shown(cell) for cell in row] for row in rows]
        widths = _widths(columns, texts, wide, self._console.width)
        if widths is None:
            for row in rows:
                self.fields(dict(zip(columns, row, strict=True)))
                self.line()
            return
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
        for place, width in widths.items():
            gives_way = columns[place] == wide
            table.add_column(
                columns[place], width=width, overflow="ellipsis" if gives_way else "fold", no_wrap=gives_way
            )
        for row in texts:
            table.add_row(*(Text(row[place]) for place in widths))
        self._console.print(table)

    def fields(self, values: Mapping[str, object]) -> None:
        """Print names and values; with `--json` nothing."""
        if self.as_json:
            return
        width = max(map(len, values), default=0)
        for name, value in values.items():
            self.line(f"{name}\t{shown(value)}" if not self.is_terminal else f"{name:<{width}}  {shown(value)}")

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print a line as it is; with `--json` nothing. Stored text has to pass `shown` first."""
        if self.as_json:
            return
        if self.is_terminal:
            self._console.print(Text(text, style=style or ""), soft_wrap=False)
        else:
            _write(text + "\n")

    def text(self, text: str) -> None:
        """Print a piece of a longer text, without a line break of its own; raw, but for terminals."""
        _write(shown(text, lines=True) if self._console.is_terminal else text)

    def note(self, text: str) -> None:
        """Say something that is not part of the result."""
        if not self.as_json:
            self._errors.print(Text(text, style="dim"), soft_wrap=not self._errors.is_terminal)

    def warn(self, text: str) -> None:
        """Say once that something has no effect or is doubtful."""
        if text not in self._warned:
            self._warned.add(text)
            self.note(f"warning: {shown(text)}")

    def failed(self, message: str, **details: Any) -> None:
        """Say why the command failed."""
        if self.as_json:
            sys.stderr.write(json_text({"error": {"message": message, **details}}) + "\n")
        else:
            self._errors.print(Text(f"error: {shown(message, lines=True)}", style="red"), soft_wrap=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on when the user agrees, or has agreed with `--yes`.

        Raises:
            typer.Exit: The user does not agree; 1. There is no terminal to ask on; 2.
        """
        if yes:
            return
        if not can_ask():
            self.failed(f"{question} There is no terminal to ask on: repeat with --yes, or only look with --dry-run.")
            raise typer.Exit(2)
        with asking():
            agreed = typer.confirm(question, default=False, err=True)
        if not agreed:
            self.note("Nothing was changed.")
            raise typer.Exit(1)

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Progress]:
        """Show how far something long has come, on a terminal; `progress.advance(progress.task_ids[0])`."""
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        bar = [BarColumn(), MofNCompleteColumn()] if total is not None else []
        with Progress(
            *columns,
            *bar,
            TimeElapsedColumn(),
            console=self._errors,
            transient=True,
            disable=self.as_json or not self._errors.is_terminal,
        ) as progress:
            progress.add_task(what, total=total)
            yield progress


_GAP = 2
"""Cells between two columns."""

_LEAST_FIRST, _LEAST_WIDE = 16, 10


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], wide: str, most: int) -> dict[int, int] | None:
    """Return the columns of a table that fits so many cells, by place, and their widths; None when none fits.

    All columns are whole, but for the first, which may be folded, and the wide one, which is cut or left out. Columns
    without anything in them are left out.
    """
    filled = [place for place, _ in enumerate(columns) if not place or not rows or any(row[place] for row in rows)]
    full = {place: max(map(cell_len, (columns[place], *(row[place] for row in rows)))) for place in filled}
    least = full | {0: max(cell_len(columns[0]), min(full[0], _LEAST_FIRST))}
    if wide in columns and (place := columns.index(wide)) in least:
        least[place] = min(full[place], _LEAST_WIDE)
        if not _fits(least, most):
            del least[place]
    if not _fits(least, most):
        return None
    for place, width in least.items():
        spare = most - sum(least.values()) - _GAP * (len(least) - 1)
        least[place] = min(full[place], width + spare)
    return least


def _fits(widths: Mapping[int, int], most: int) -> bool:
    return sum(widths.values()) + _GAP * (len(widths) - 1) <= most


def _write(text: str) -> None:
    # Half a surrogate pair cannot be encoded; in JSON its escape is the same letter.
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def can_ask() -> bool:
    """Tell whether there is a person to ask."""
    return sys.stdin.isatty()


def advance(progress: Progress) -> None:
    """Count one more as done."""
    progress.advance(progress.task_ids[0])


def shown(value: object, *, lines: bool = False) -> str:
    """Return a value as text for a terminal: without control characters, and in one line unless `lines`.

    Stored text may hold escape sequences that would move the cursor, and marks that turn the direction of text.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, Mapping | list | tuple):
        return shown(json_text(value))
    text = str(value)
    keep = "\n\t" if lines else ""
    return "".join(letter if letter in keep or not _hides(letter) else _escaped(letter) for letter in text)


def _hides(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(letter: str) -> str:
    if letter in "\n\r\t":
        return " "
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def when(date: str | datetime | None) -> str:
    """Return a date, or a text that may be an ISO date, as dates are shown."""
    if isinstance(date, str):
        try:
            date = datetime.fromisoformat(date)
        except ValueError:
            return shown(date)
    return "" if date is None else utc(date)


def utc(moment: datetime) -> str:
    """Return a date in UTC, to the second."""
    return moment.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00") + "Z"


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON: dates as ISO text with `Z`, bytes in base64, what JSON does not know as text.

    Without `indent` it is one line, for every reader.
    """
    return one_line(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent))


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case bytes():
            return base64.b64encode(value).decode()
        case float() if not math.isfinite(value):
            return str(value)
        case bool() | None:
            return value
        case int():
            return digits(value) if is_too_long(value) else int(value)
        case str() | float():
            return value
        case _:
            return str(value)
