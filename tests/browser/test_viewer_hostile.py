"""Hostile content in every field that people, models or tools can fill: nothing runs, nothing breaks the layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from tests.apps.viewer.stored import START, message, session
from tests.browser.conftest import StartViewer
from tests.fixtures.browser import OpenPage, sideways
from tests.fixtures.sessions import Sessions

# Each of them would set this flag of the window, or load something from elsewhere, or grow without end.
SCRIPTS = [
    "<script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "<svg onload=window.pwned=1><animate onbegin=window.pwned=1 attributeName=x dur=1s>",
    '<svg><style><img src="</style><img src=x onerror=window.pwned=1>">',
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=window.pwned=1&gt;'>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe><object data='javascript:window.pwned=1'></object>",
    "<style>*{display:none!important}</style><link rel=stylesheet href=http://evil.example/x.css>",
    "<base href='http://evil.example/'><meta http-equiv=refresh content='0;url=http://evil.example/'>",
    "<form action='javascript:window.pwned=1'><input autofocus onfocus=window.pwned=1></form>",
    "<a id=cookie name=body href='javascript:window.pwned=1'>x</a><form name=getElementById>",
    "javascript:window.pwned=1",
    "[link](javascript:window.pwned=1) [data](data:text/html,<script>window.pwned=1</script>) [vb](vbscript:x)",
    "[case](JaVaScRiPt:window.pwned=1) [entity](&#106;avascript:window.pwned=1) [tab](java\tscript:window.pwned=1)",
    "![image](http://evil.example/pixel.png) ![x](javascript:window.pwned=1) <http://evil.example/a>",
    "[ref]: javascript:window.pwned=1 'x'\n\n[ref] and <javascript:window.pwned=1>",
    "| a |\n|:-:|\n| <img src=x onerror=window.pwned=1> |\n",
    '```html" onmouseover=window.pwned=1\n<script>window.pwned=1</script>\n```',
    "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1} <%= window.pwned=1 %>",
    "\u202e\u2066right to left\u2069 \ufeff\u200b\U0001f600",
    "Z\u0351\u036b\u0343\u032a" * 30,
    "M" * 3000,
    "#" * 400 + " deep\n" + ">" * 200 + " quoted\n" + "- " * 200 + "listed",
    "url(http://evil.example/x) ; background:red } body { display:none } /*",
    "__proto__",
    "constructor",
]
PER_SESSION = 7

SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='parent.pwned=1'/>"
PICTURE = {"image": {"format": "svg", "source": {"bytes": SVG}}}


def _document(number: int, texts: Sequence[str]) -> dict[str, Any]:
    """Return a session with each text in every place that takes one."""
    first = texts[0]
    document = session(
        f"hostile-{number} {first}"[:400],
        created=START,
        application_name=first,
        metadata={
            **{text.replace(".", "·").replace("$", "S"): text for text in texts},
            "nested": {"list": [*texts, {"deep": first}]},
        },
        agents={text: _messages(text) for text in texts},
    )
    for agent, text in zip(document["agents"].values(), texts, strict=True):
        agent["agent_data"] |= {
            "agent_id": text,
            "model": text,
            "system_prompt": text,
            "prompt_metadata": {text: text},
            "state": {text: {text: text}},
        }
        agent["usage"] = {"totalTokens": 12, "tools": {text: {"callCount": 1}}}
    document["feedbacks"] = [
        {"rating": rating, "comment": text, text: text, "created_at": START}
        for text in texts
        for rating in (text, "up")
    ]
    document["guardrail_events"] = [
        {
            "message_id": 0,
            "agent_id": text,
            "action": text,
            "timestamp": START,
            "stop_reason": text,
            "policies_triggered": {text: [text]},
        }
        for text in texts
    ]
    return document


def _messages(text: str) -> list[dict[str, Any]]:
    call = f"call {text}"
    thought = {"reasoningContent": {"reasoningText": {"text": text}}}
    use = {"toolUse": {"toolUseId": call, "name": text, "input": {text: [text, {text: text}]}}}
    answer = [{"text": text}, {"json": {text: text}}, PICTURE]
    costs = {"accumulated_usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}}
    return [
        message("user", text),
        message("assistant", [{"text": text}, thought, use], minute=1, event_loop_metrics=costs),
        message(
            "user",
            [
                {"toolResult": {"toolUseId": call, "status": text, "content": answer}},
                PICTURE,
                {"document": {"name": text, "format": text, "source": {"bytes": b"x"}}},
            ],
            minute=2,
        ),
        {**message("user", text, minute=3), "message": {"role": text, "content": text}},
        {**message("user", text, minute=4), "role": text},
    ]


async def _is_unharmed(page: Page) -> None:
    assert await page.evaluate("window.pwned") is None
    assert await sideways(page) == 0
    await expect(page.locator(".topbar")).to_be_visible()
    strange = page.locator("main :is(script, style, iframe, object, embed, form[action], base, meta, link, math)")
    assert await strange.count() == 0
    addresses = await page.locator("main a[href]").evaluate_all("(links) => links.map((link) => link.protocol)")
    assert set(addresses) <= {"http:", "https:", "mailto:"}


@pytest.mark.parametrize("width", [1360, pytest.param(390, marks=pytest.mark.slow)])
async def test_nothing_runs_and_nothing_breaks(
    width: int, open_page: OpenPage, sessions: Sessions, start_viewer: StartViewer
) -> None:
    documents = [
        _document(number, SCRIPTS[number : number + PER_SESSION]) for number in range(0, len(SCRIPTS), PER_SESSION)
    ]
    # A card for each, since it shows one id and one name of an application.
    cards = [session(f"card-{number} {text}"[:400], application_name=text) for number, text in enumerate(SCRIPTS)]
    sessions.raw.insert_many([*documents, *cards])
    url = start_viewer()
    page = await open_page(viewport={"width": width, "height": 800})

    await page.goto(f"{url}?limit=50")
    await expect(page.locator("a.result")).to_have_count(len(documents) + len(cards))
    await _is_unharmed(page)

    for document in documents:
        await page.goto(f"{url}?session_id={quote(document['_id'], safe='')}")
        await expect(page.locator(".message").first).to_be_visible()
        await page.get_by_role("button", name="Expand all").click()
        await expect(page.locator("details.disclosure[open]").first).to_be_attached()
        await _is_unharmed(page)
        for tab in ("Usage", "Metadata", "Agents"):
            await page.get_by_role("tab", name=tab).click()
            await expect(page.get_by_role("tabpanel", name=tab)).to_be_visible()
            if tab == "Usage":
                await expect(page.locator(".chart canvas, .state").first).to_be_visible()
            await _is_unharmed(page)


async def test_links_are_harmless_and_pictures_are_not_fetched(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    text = "[good](https://example.org/a) <mailto:a@example.org> ![seen](https://example.org/pixel.png) [bad](ftp://x/)"
    sessions.raw.insert_one(session("links", agents={"a": [message("assistant", text)]}))
    await page.goto(f"{start_viewer()}?session_id=links")

    link = page.get_by_role("link", name="good")
    await expect(link).to_have_attribute("href", "https://example.org/a")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await expect(link).to_have_attribute("target", "_blank")
    await expect(page.get_by_role("link", name="[image: seen]")).to_be_visible()
    await expect(page.locator(".bubble img")).to_have_count(0)
    await expect(page.get_by_role("link", name="bad")).to_have_count(0)
