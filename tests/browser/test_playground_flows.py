"""What people do in the playground beside talking, each by keyboard alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from playwright.async_api import Download, Locator, Page, expect

from mongodb_session_manager.offline import OfflineModel
from mongodb_session_manager.playground.agent import AGENT_ID, SYSTEM_PROMPT
from tests.apps.playground.servers import PausingModel, playground
from tests.browser.keyboard import press
from tests.browser.playground_pages import answered, opened, replies, say
from tests.fixtures.browser import OpenPage
from tests.fixtures.sessions import Sessions
from tests.fixtures.waiting import eventually
from tests.support.models import Reply, ScriptedModel

pytestmark = pytest.mark.slow


async def _press(page: Page, target: Locator, key: str = "Shift+Tab") -> None:
    """Press a control that stands before the message box, where one is most of the time."""
    await press(page, target, key)


async def _content(download: Download) -> bytes:
    path = await download.path()
    return await asyncio.to_thread(path.read_bytes)


def _stored(sessions: Sessions) -> dict[str, list[str]]:
    return {
        document["_id"]: sessions.texts(AGENT_ID, document["_id"])
        for document in sessions.raw.find({}, {"_id": 1}).sort("created_at", 1)
    }


async def test_a_reply_is_made_again_a_message_edited_and_a_conversation_branched(
    sessions: Sessions, open_page: OpenPage
) -> None:
    model = ScriptedModel("One.", "Two.", "Another two.", "Edited two.", "Edited one.", "Branched.")
    async with playground(sessions, model) as app:
        page = await opened(open_page, app)
        for text in ("First", "Second"):
            await say(page, text)
            await answered(page)
        first = page.url

        await _press(page, page.get_by_role("button", name="Regenerate reply").last)
        await expect(replies(page).last).to_contain_text("Another two.")
        await answered(page)
        assert page.url != first

        await page.goto(first)
        await expect(replies(page)).to_have_count(2)
        await _press(page, page.get_by_role("button", name="Edit and resend").last)
        box = page.get_by_role("textbox", name="Message")
        await expect(box).to_be_focused()
        await expect(box).to_have_value("Second")
        await page.keyboard.press("Escape")
        await expect(box).to_have_value("")
        await _press(page, page.get_by_role("button", name="Edit and resend").last)
        await expect(box).to_have_value("Second")
        await page.keyboard.press("End")
        await page.keyboard.type(" thoughts")
        await page.keyboard.press("Enter")
        await expect(replies(page).last).to_contain_text("Edited two.")
        await answered(page)

        await page.goto(first)
        await expect(replies(page)).to_have_count(2)
        await _press(page, page.get_by_role("button", name="Edit and resend").first)
        await expect(box).to_have_value("First")
        await page.keyboard.press("Enter")
        await expect(replies(page)).to_contain_text("Edited one.")
        await answered(page)

        await page.goto(first)
        await expect(replies(page)).to_have_count(2)
        await _press(page, replies(page).first.get_by_role("button", name="Branch from here"))
        await expect(replies(page)).to_have_count(1)
        await say(page, "Third")
        await answered(page)

    assert list(_stored(sessions).values()) == [
        ["First", "One.", "Second", "Two."],
        ["First", "One.", "Second", "Another two."],
        ["First", "One.", "Second thoughts", "Edited two."],
        ["First", "Edited one."],
        ["First", "One.", "Third", "Branched."],
    ]


async def test_files_are_chosen_pasted_dropped_refused_taken_off_and_sent_again(
    sessions: Sessions, open_page: OpenPage
) -> None:
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
    )
    async with playground(sessions, ScriptedModel("A dot.", "A dot again.")) as app:
        page = await opened(open_page, app)
        picker, attached = page.locator("input[type=file]"), page.locator(".attached-file")
        files: list[Any] = [
            {"name": "dot.png", "mimeType": "image/png", "buffer": png},
            {"name": "film.mp4", "mimeType": "video/mp4", "buffer": b"film"},
            {"name": "empty.txt", "mimeType": "text/plain", "buffer": b""},
        ]
        await picker.set_input_files(files)
        await expect(attached).to_have_count(1)
        await expect(page.locator(".toasts")).to_contain_text("film.mp4")
        await expect(page.locator(".toasts")).to_contain_text("empty.txt: the file is empty")
        given = """(node, [kind, name, text]) => {
            const data = new DataTransfer();
            data.items.add(new File([text], name, { type: "text/csv" }));
            const options = { bubbles: true, cancelable: true };
            node.dispatchEvent(kind === "paste" ? new ClipboardEvent(kind, { ...options, clipboardData: data })
                : new DragEvent(kind, { ...options, dataTransfer: data }));
        }"""
        await page.get_by_role("textbox", name="Message").evaluate(given, ["paste", "pasted.csv", "a,b"])
        await page.locator("#chat").evaluate(given, ["drop", "dropped.csv", "c,d"])
        await expect(attached).to_have_count(3)
        await page.get_by_role("textbox", name="Message").focus()
        await _press(page, page.get_by_role("button", name="Remove pasted.csv"))
        await expect(attached).to_have_count(2)
        await expect(page.get_by_role("button", name="Attach images or documents")).to_be_focused()
        await say(page, "What is it?")
        await answered(page)
        shown = page.locator("#thread .message-user")
        await expect(shown.locator("img")).to_have_js_property("naturalWidth", 1)
        async with page.expect_download() as download:
            await shown.get_by_role("link", name="dropped").click()
        assert await _content(await download.value) == b"c,d"

        await _press(page, page.get_by_role("button", name="Edit and resend"))
        await expect(attached).to_have_count(2)
        await page.keyboard.press("Enter")
        await expect(replies(page)).to_contain_text("A dot again.")
        await answered(page)

    sent = [request[-1]["content"] for request in model_requests(app)]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert [next(iter(block)) for block in sent[0]] == ["text", "image", "document"]
    assert sent[0][1]["image"]["source"]["bytes"] == png


def model_requests(app: Any) -> list[Any]:
    """Return what the playground's model was asked."""
    requests: list[Any] = app.app.state.services.agents._model.requests
    return requests


async def test_a_failed_reply_shows_the_error_and_what_helps_and_is_asked_for_again(
    sessions: Sessions, open_page: OpenPage
) -> None:
    error = RuntimeError("Error code: 429 - Too many requests <b>now</b>")
    async with playground(sessions, ScriptedModel(Reply(error=error), "Here I am.")) as app:
        page = await opened(open_page, app)
        await say(page, "Hello?")
        alert = page.locator(".failure")
        await expect(alert).to_contain_text("Too many requests <b>now</b>")
        await expect(alert).to_contain_text("RuntimeError")
        await expect(alert).to_contain_text("wait a moment")
        await _press(page, alert.get_by_role("button", name="Send again"))
        await expect(replies(page)).to_contain_text("Here I am.")
        await answered(page)
        await expect(alert).to_have_count(0)

    assert list(_stored(sessions).values()) == [["Hello?", "Here I am."]]


async def test_a_conversation_is_renamed_found_exported_and_deleted(sessions: Sessions, open_page: OpenPage) -> None:
    async with playground(sessions, ScriptedModel(otherwise="Blue, like the sea.")) as app:
        await app.chat("other", "Something else")
        page = await opened(open_page, app)
        await say(page, "Which colour?")
        await answered(page)
        menu = page.get_by_role("button", name="Conversation menu")

        await _press(page, menu)
        await expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(menu).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("textbox", name="Title")).to_be_focused()
        await page.keyboard.press("Control+A")
        await page.keyboard.type("Paint")
        await page.keyboard.press("Enter")
        await expect(page.locator(".conversation.is-current")).to_contain_text("Paint")
        await expect(page.locator("#chat-title")).to_have_text("Paint")
        [renamed] = list(sessions.raw.find({"title": "Paint"}, {"title": 1}))

        await menu.focus()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("End")
        await page.keyboard.press("ArrowUp")
        async with page.expect_download() as download:
            await page.keyboard.press("Enter")
        exported = json.loads(await _content(await download.value))
        assert (exported["title"], len(exported["messages"])) == ("Paint", 2)

        search = page.get_by_role("searchbox", name="Search conversations")
        await search.focus()
        await page.keyboard.type("the SEA")
        await expect(page.locator(".conversations-found")).to_have_text("2 conversations found")
        await expect(page.locator(".conversation-excerpt").first).to_contain_text("like the sea")
        await expect(page.locator(".conversation-excerpt mark").first).to_have_text("the sea")
        await page.keyboard.press("Control+A")
        await page.keyboard.type("paint")
        await expect(page.locator(".conversation")).to_have_count(1)
        await page.keyboard.press("Escape")
        await expect(page.locator(".conversation")).to_have_count(2)

        await menu.focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("End")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="What would you like to try?")).to_be_visible()

    assert list(_stored(sessions)) == ["other"]
    assert renamed["_id"] == exported["session_id"]


async def test_a_menu_closes_on_a_click_elsewhere_and_covers_nothing_that_is_clicked(
    sessions: Sessions, open_page: OpenPage
) -> None:
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        for width in (1360, 390):
            page = await opened(open_page, app, "/?session_id=s-1", viewport={"width": width, "height": 700})
            button = page.get_by_role("button", name="Conversation menu")
            await button.click()
            menu = page.get_by_role("menu")
            box, anchor = await menu.bounding_box(), await button.bounding_box()
            assert box is not None
            assert anchor is not None
            assert box["y"] >= anchor["y"] + anchor["height"]
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            await page.locator("#thread").click(position={"x": 5, "y": 5})
            await expect(menu).to_have_count(0)
            await button.click()
            await button.click()
            await expect(menu).to_have_count(0)


async def test_a_system_prompt_is_chosen_before_the_first_message_and_changed_later(
    sessions: Sessions, open_page: OpenPage
) -> None:
    model = ScriptedModel(otherwise="Aye.")
    async with playground(sessions, model) as app:
        page = await opened(open_page, app)
        button = page.get_by_role("button", name="System prompt and temperature")
        await _press(page, button)
        await expect(page.get_by_role("textbox", name="System prompt")).to_be_focused()
        await expect(page.get_by_role("spinbutton", name="Temperature")).to_be_disabled()
        await page.keyboard.type("You are a pirate.")
        await _press(page, page.get_by_role("button", name="Use for this conversation"), "Tab")
        await expect(page.locator("#tuned")).to_have_text("own system prompt")
        await page.get_by_role("textbox", name="Message").focus()
        await page.keyboard.type("Ahoy")
        await page.keyboard.press("Enter")
        await answered(page)
        await page.reload()
        await expect(page.locator("#tuned")).to_have_text("own system prompt")
        await _press(page, button)
        await expect(page.get_by_role("textbox", name="System prompt")).to_have_value("You are a pirate.")
        await page.keyboard.press("Control+A")
        await page.keyboard.press("Delete")
        await _press(page, page.get_by_role("button", name="Use for this conversation"), "Tab")
        await expect(page.locator("#tuned")).to_be_hidden()
        await say(page, "And now?")
        await answered(page)

    assert model.system_prompts == ["You are a pirate.", SYSTEM_PROMPT]


async def test_what_was_said_is_recalled_and_code_is_shown_as_code(sessions: Sessions, open_page: OpenPage) -> None:
    code = 'Run `make` or\n```python\nprint("<b>hi</b>")\n```\n149. Why?'
    async with playground(sessions, ScriptedModel(otherwise="Yes.")) as app:
        page = await opened(open_page, app)
        for text in ("First", code, code):
            await say(page, text)
            await answered(page)
        said = page.locator("#thread .message-user").nth(1)
        await expect(said.locator(".plain-text code")).to_have_text("make")
        await expect(said.locator("pre code")).to_have_text('print("<b>hi</b>")')
        await expect(said).to_contain_text("149. Why?")
        await expect(said).not_to_contain_text("```")
        box = page.get_by_role("textbox", name="Message")
        for key, value in (("ArrowUp", code), ("ArrowUp", "First"), ("ArrowUp", "First"), ("ArrowDown", code)):
            await page.keyboard.press(key)
            await expect(box).to_have_value(value)
        await page.keyboard.press("ArrowDown")
        await expect(box).to_have_value("")
        await page.keyboard.type("x")
        await page.keyboard.press("ArrowUp")
        await expect(box).to_have_value("x")


async def test_a_composer_that_grows_covers_nothing_of_the_end(sessions: Sessions, open_page: OpenPage) -> None:
    async with playground(sessions, ScriptedModel("Yes.\n\n" * 40)) as app:
        page = await opened(open_page, app, viewport={"width": 390, "height": 844})
        await say(page, "Is it?")
        await answered(page)
        last = replies(page).last
        await expect(last.get_by_role("button", name="Copy reply")).to_be_in_viewport(ratio=1)

        scroller = page.locator("#thread-scroll")
        before = await scroller.evaluate("(node) => node.clientHeight")
        await page.get_by_role("textbox", name="Message").fill("line\n" * 8)

        assert await scroller.evaluate("(node) => node.clientHeight") < before
        await page.wait_for_function(
            """() => {
                const box = document.getElementById("thread-scroll");
                return box.scrollHeight - box.scrollTop - box.clientHeight < 2;
            }"""
        )


async def test_every_message_can_be_copied(sessions: Sessions, open_page: OpenPage) -> None:
    async with playground(sessions, ScriptedModel("**Yes.**")) as app:
        page = await opened(open_page, app, permissions=["clipboard-read", "clipboard-write"])
        await say(page, "Is `it`?")
        await answered(page)
        for label, text in (("Copy message", "Is `it`?"), ("Copy reply", "**Yes.**")):
            await _press(page, page.get_by_role("button", name=label))
            await expect(page.locator(".toasts")).to_contain_text(f"{label[5:].capitalize()} copied")
            assert await page.evaluate("navigator.clipboard.readText()") == text
            await page.get_by_role("textbox", name="Message").focus()


async def test_a_reply_is_stopped_by_keyboard(sessions: Sessions, open_page: OpenPage) -> None:
    model = PausingModel("The first half, and the second half.")
    async with playground(sessions, model) as app:
        page = await opened(open_page, app)
        await page.keyboard.type("Talk")
        await page.keyboard.press("Enter")
        await expect(replies(page)).to_contain_text("The first half")
        await _press(page, page.get_by_role("button", name="Stop the reply"), "Tab")
        [session_id] = _stored(sessions)
        await app.told_to_stop(session_id)
        model.resume.set()
        await answered(page)

    assert len(_stored(sessions)[session_id]) == 2


async def test_drafts_are_kept_apart_and_survive_a_reload(sessions: Sessions, open_page: OpenPage) -> None:
    async with playground(sessions, OfflineModel()) as app:
        await app.chat("s-1", "This is the first one")
        page = await opened(open_page, app)
        box = page.get_by_role("textbox", name="Message")
        await box.fill("A new thought")
        await page.get_by_role("link", name="This is the first one").click()
        await expect(box).to_have_value("")
        await box.fill("And another")
        await page.reload()
        await expect(replies(page)).to_have_count(1)
        await expect(box).to_have_value("And another")
        await page.get_by_role("link", name="New conversation").click()
        await expect(box).to_have_value("A new thought")
        await page.keyboard.press("Enter")
        await answered(page)
        await eventually(lambda: sessions.raw.count_documents({}) == 2, "storing")
        await page.get_by_role("link", name="New conversation").click()
        await expect(box).to_have_value("")
