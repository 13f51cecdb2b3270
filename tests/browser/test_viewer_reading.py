"""Reading a conversation: finding in it, hits at their place, links to messages, calls with their results."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from playwright.async_api import Page, expect

from tests.apps.viewer.stored import START, message, session
from tests.browser.conftest import StartViewer
from tests.fixtures.browser import Watch
from tests.fixtures.sessions import Sessions

Document = dict[str, Any]


def long_talk(session_id: str = "s-1", count: int = 400) -> Document:
    """Return a session of many messages; every hundredth speaks of a needle."""
    texts = [f"Message {number}" + (" with a needle" if number % 100 == 50 else "") for number in range(count)]
    messages = [message(("user", "assistant")[number % 2], text, minute=number) for number, text in enumerate(texts)]
    return session(session_id, agents={"a": messages})


async def test_a_hit_of_a_text_search_is_opened_at_its_place_and_marked(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_many([long_talk(), session("s-2", agents={"a": [message("user", "hay")]})])
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(2)

    await page.keyboard.press("/")
    await page.keyboard.type("NEEDLE")
    await expect(page.get_by_text("Looked through 2 sessions, all of them.")).to_be_visible()
    await expect(page.get_by_text("1 found")).to_be_visible()
    await expect(page.locator(".result-hit")).to_have_text("Message 50 with a needle")
    await expect(page.locator(".result-hit mark")).to_have_text("needle")
    await page.locator("a.result").click()

    await expect(page.locator(".message", has_text="Message 50 with a needle")).to_be_in_viewport()
    await expect(page.locator(".find-count")).to_have_text("4 messages")
    marked = "() => [...(CSS.highlights.get('found') ?? [])].map((range) => range.toString())"
    await page.wait_for_function(f"({marked})().length > 0")
    assert set(await page.evaluate(marked)) == {"needle"}
    assert "message=a%3A50" in page.url


async def test_a_search_for_text_goes_on_and_stops_on_request(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_many(
        session(f"s-{number:03}", created=START + timedelta(hours=number), agents={"a": [message("user", "a needle")]})
        for number in range(30)
    )
    await page.goto(f"{start_viewer()}?text=needle")

    await expect(page.locator("a.result")).to_have_count(20)
    await expect(page.get_by_text(re.compile(r"Looked through \d+ sessions back to"))).to_be_visible()
    await page.get_by_role("button", name="Go on").click()
    await expect(page.locator("a.result")).to_have_count(30)
    await expect(page.get_by_text("Looked through 30 sessions, all of them.")).to_be_visible()
    await expect(page.get_by_role("button", name="Go on")).to_be_hidden()


async def test_find_goes_from_match_to_match_by_keyboard(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_one(long_talk())
    await page.goto(f"{start_viewer()}?session_id=s-1")
    await expect(page.locator(".message").first).to_be_visible()

    await page.keyboard.press("f")
    await page.keyboard.type("needle")
    await expect(page.locator(".find-count")).to_have_text("1 of 4")
    for number, place in ((150, "2 of 4"), (250, "3 of 4"), (350, "4 of 4"), (50, "1 of 4")):
        await page.keyboard.press("Enter")
        await expect(page.locator(".find-count")).to_have_text(place)
        await expect(page.locator(".message", has_text=f"Message {number} with")).to_be_in_viewport()
    await page.keyboard.press("Shift+Enter")
    await expect(page.locator(".find-count")).to_have_text("4 of 4")
    await page.get_by_label("Find in this session").last.fill("no such text")
    await expect(page.locator(".find-count")).to_have_text("Not found")
    await page.keyboard.press("Escape")
    await expect(page.locator(".find-bar")).to_be_hidden()
    await expect(page.get_by_role("heading", level=1, name="s-1")).to_be_visible()
    assert not await page.evaluate("CSS.highlights.has('found')")


async def test_a_link_opens_a_message_with_what_is_around_it(
    page: Page, sessions: Sessions, start_viewer: StartViewer, watch: Watch
) -> None:
    watch.allow("status of 404.*message_id=999")
    sessions.raw.insert_one(long_talk())
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    url = start_viewer()
    await page.goto(f"{url}?session_id=s-1&message=a%3A200")

    target = page.locator(".message", has_text=re.compile(r"Message 200\b"))
    await expect(target).to_be_focused()
    await expect(target).to_be_in_viewport()
    await expect(page.locator(".message", has_text=re.compile(r"Message 199\b"))).to_be_attached()
    assert await page.locator(".message").count() < 300
    await target.get_by_role("button", name="Copy a link to message 200").focus()
    await page.keyboard.press("Enter")
    assert await page.evaluate("navigator.clipboard.readText()") == f"{url}?session_id=s-1&message=a%3A200"

    await page.goto(f"{url}?session_id=s-1&message=a%3A999")
    await expect(page.locator(".message", has_text=re.compile(r"Message 0\b"))).to_be_in_viewport()


def tools() -> Document:
    """Return a session whose agent called three tools: one answered, one failed, one is not answered."""

    def use(name: str) -> Document:
        return {"toolUse": {"toolUseId": name, "name": name, "input": {"list": list(range(4_000))}}}

    def answer(name: str, status: str, text: str) -> Document:
        return {"toolResult": {"toolUseId": name, "status": status, "content": [{"text": text}]}}

    messages = [
        message("user", "Do it."),
        message("assistant", [use("works"), use("fails")]),
        message("user", [answer("works", "success", "fine"), answer("fails", "error", "broken")]),
        message("assistant", [use("never")]),
    ]
    return session("s-1", agents={"a": messages})


async def test_a_call_and_its_result_are_one_card(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    sessions.raw.insert_one(tools())
    await page.goto(f"{start_viewer()}?session_id=s-1")

    cards = page.locator("details.tool")
    await expect(cards).to_have_count(3)
    await expect(cards.nth(0).locator("summary").first).to_contain_text("→")
    await expect(cards.nth(0).get_by_role("img", name="succeeded")).to_be_visible()
    await expect(cards.nth(1)).to_contain_text("failed")
    await expect(cards.nth(2)).to_contain_text("not answered")
    await cards.nth(1).locator("summary").first.click()
    await expect(cards.nth(1).locator(".pre")).to_have_text("broken")


async def test_what_is_left_out_is_told_as_shown_of_all(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_one(tools())
    await page.goto(f"{start_viewer()}?session_id=s-1")

    card = page.locator("details.tool").first
    await card.locator("summary").first.click()
    await expect(card.locator(".json").first).to_contain_text(re.compile(r"\[ 1,\d+ of 4,000 items \]"))
    await card.get_by_role("button", name="Raw").first.click()
    await expect(card.locator(".value-body .pre").first).to_contain_text('"list": [')


async def test_everything_folds_and_unfolds_with_one_key(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_one(tools())
    await page.goto(f"{start_viewer()}?session_id=s-1")
    await expect(page.locator("details.disclosure")).to_have_count(3)

    await page.keyboard.press("e")
    await expect(page.locator("details.disclosure[open]")).to_have_count(3)
    await expect(page.get_by_role("button", name="Collapse all")).to_be_visible()
    await page.keyboard.press("e")
    await expect(page.locator("details.disclosure[open]")).to_have_count(0)


async def test_failed_turns_stand_where_they_happened(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    document = long_talk(count=4)
    document["errors"] = [
        {"timestamp": START + timedelta(minutes=1.5), "agent_id": "a", "error": "ModelThrottledException"}
    ]
    document["summary"]["errors"] = 1
    sessions.raw.insert_one(document)
    await page.goto(f"{start_viewer()}?session_id=s-1")

    items = page.locator(".item")
    await expect(items).to_have_count(5)
    await expect(items.nth(2)).to_contain_text("Turn failed: ModelThrottledException")
    await expect(page.locator(".detail-summary")).to_contain_text("1 failed turn")


async def test_code_is_coloured_and_tasks_are_boxes_and_neither_is_markup(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    text = "```python\ndef f(x):\n    return '<img src=x onerror=alert(1)>'\n```\n\n- [x] done\n- [ ] open\n"
    sessions.raw.insert_one(session("s-1", agents={"a": [message("assistant", text)]}))
    await page.goto(f"{start_viewer()}?session_id=s-1")

    code = page.locator(".markdown pre code")
    await expect(code.locator(".hljs-keyword")).to_have_text(["def", "return"])
    await expect(code).to_contain_text("<img src=x onerror=alert(1)>")
    await expect(page.locator(".markdown img")).to_have_count(0)
    await expect(page.locator(".markdown li.task")).to_have_text(["☑ done", "☐ open"])


async def test_j_and_k_walk_through_the_sessions_from_anywhere(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_many(
        session(
            f"s-{number}", created=START - timedelta(hours=number), agents={"a": [message("user", f"I am {number}")]}
        )
        for number in range(4)
    )
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(4)

    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1, name="s-0")).to_be_visible()
    await page.get_by_role("tab", name="Conversation").focus()
    await page.keyboard.press("j")
    await expect(page.get_by_role("heading", level=1, name="s-1")).to_be_visible()
    await page.locator("#detail").focus()
    await page.keyboard.press("j")
    await expect(page.get_by_role("heading", level=1, name="s-2")).to_be_visible()
    await page.keyboard.press("k")
    await expect(page.get_by_role("heading", level=1, name="s-1")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", name="Choose a session")).to_be_visible()
