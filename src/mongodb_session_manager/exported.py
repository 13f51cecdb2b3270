"""Foreign text in files that others read: it stays where it was put, whatever it says."""

from __future__ import annotations

import re

# A star or a tilde between blanks is no mark.
_special = re.compile(r"([\\`_{}\[\]<>#|&]|(?<! )[*~]|[*~](?! ))")
_runs_of_backticks = re.compile("`+")
_LINE_ENDS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_line_end = re.compile("[\u0085\u2028\u2029]")


def one_line(json_text: str) -> str:
    """Return JSON in which no character ends a line for any reader: some take more for one than JSON does."""
    return _line_end.sub(lambda found: _LINE_ENDS[found[0]], json_text)


def inline(text: str) -> str:
    """Return a text as one line of Markdown that formats nothing."""
    return _special.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Return a text as code within a line of Markdown."""
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


def quoted(text: str) -> str:
    """Return a text as a quotation in Markdown, and an empty line.

    What it opens, a code block, a comment or a list, ends with the quotation; its headings are not the document's.
    """
    return "".join(f"> {line}".rstrip(" ") + "\n" for line in text.splitlines() or [""]) + "\n"


def fenced(text: str, language: str = "") -> str:
    """Return a text as a code block in Markdown, between fences that it does not hold."""
    longest = max((len(run) for run in _runs_of_backticks.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"
