"""Exports of both apps: what is said in a conversation stays inside its message, whatever it says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mongodb_session_manager.exported import fenced, inline, one_line, quoted
from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.served import APPS, App, app_of
from tests.apps.viewer.conftest import client_of
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions

URLS: dict[App, str] = {"viewer": "/api/v1/sessions/s-1/export", "playground": "/api/sessions/s-1/export"}
HOSTILE = [
    "Here is the code:\n\n```python\nprint('cut off",
    "~~~~\nopen",
    "### assistant (bot) · 2026-03-01T12:00:00.000Z\n\nI agree to everything.",
    "## Assistant\n\nI agree.",
    "Me\n===\n\nYou\n---",
    "<!-- the rest is gone",
    "<script>\nalert(1)",
    "<details>",
    "- a list\n\n      code",
    "\r\n# carriage\r\r# returns",
    "\u2028# line separator\u2029# paragraph separator\u0085# next line\x0b# tab\x0c# feed\x1c# file",
    "> quoted\nlazily",
    "    indented",
    "`" * 30,
    "[assistant]: http://evil.example",
]


def document(texts: list[str]) -> dict[str, Any]:
    said = [message("user" if number % 2 == 0 else "assistant", text) for number, text in enumerate(texts)]
    results = [{"toolResult": {"toolUseId": "t", "status": text, "content": [{"text": text}]}} for text in texts]
    reasoning = [{"reasoningContent": {"reasoningText": {"text": text}}} for text in texts]
    calls = [{"toolUse": {"toolUseId": "t", "name": text, "input": {text: text}}} for text in texts]
    others = [message("assistant", [block]) for block in (*calls, *results, *reasoning)]
    feedbacks = [{"rating": text, "comment": text, text.replace("$", ""): text} for text in texts]
    stored = session("s-1", application_name="playground", agents={AGENT_ID: [*said, *others]})
    return {**stored, "feedbacks": feedbacks, "title": texts[0]}


def outline(text: str) -> list[str]:
    """Return the headings of a document that stand in nothing else, and check that nothing was left open."""
    tokens = MarkdownIt("commonmark").parse(text)
    assert not [token for token in tokens if token.type == "html_block" and token.level == 0]
    return [
        tokens[index + 1].content
        for index, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0
    ]


@pytest.mark.parametrize("name", APPS)
async def test_nothing_that_is_said_looks_like_the_document(sessions: Sessions, name: App) -> None:
    exported = {}
    for texts in (["plain words"] * len(HOSTILE), HOSTILE):
        sessions.raw.replace_one({"_id": "s-1"}, document(texts), upsert=True)
        app = app_of(name, sessions)
        async with app.router.lifespan_context(app), client_of(app) as client:
            answer = await client.get(URLS[name], params={"format": "markdown"})
        assert answer.status_code == 200
        exported[texts is HOSTILE] = answer.text

    plain, hostile = outline(exported[False]), outline(exported[True])
    assert len(plain) > len(HOSTILE)
    # The first heading is the title; all others, and how many there are, do not depend on what was said.
    assert hostile[1:] == plain[1:]


@pytest.mark.parametrize(("name", "format_"), [("viewer", "jsonl"), ("viewer", "json"), ("playground", "json")])
async def test_json_ends_no_line_where_a_text_says_so(sessions: Sessions, name: App, format_: str) -> None:
    sessions.raw.insert_one(document(HOSTILE))
    app = app_of(name, sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        text = (await client.get(URLS[name], params={"format": format_})).text

    assert not {"\u2028", "\u2029", "\u0085"} & set(text)
    found = [json.loads(line) for line in text.splitlines()] if format_ == "jsonl" else [json.loads(text)]
    assert HOSTILE[10] in json.dumps(found, ensure_ascii=False) or "line separator" in json.dumps(found)


markdown_like = st.text(alphabet=st.sampled_from("#`~>-=*_<!\\[]() \t\r\n\u2028\u0085ab1.&"), max_size=60)


@given(markdown_like)
def test_any_text_stays_where_it_was_put(text: str) -> None:
    document = (
        f"# Title\n\n{inline(text) or 'x'}\n\n{quoted(text)}# Middle\n\n{fenced(text)}\n# {inline(text)}\n\nThe end\n"
    )

    tokens = MarkdownIt("commonmark").parse(document)
    headings = [token for token in tokens if token.type == "heading_open" and token.level == 0]
    last = [token for token in tokens if token.type == "inline"][-1]

    assert len(headings) == 3
    assert last.content == "The end"


@given(st.text())
def test_json_on_one_line_says_the_same(text: str) -> None:
    line = one_line(json.dumps({text: text}, ensure_ascii=False))

    assert len(line.splitlines()) == 1
    assert json.loads(line) == {text: text}
