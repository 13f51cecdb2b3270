"""One session: its conversation, tools, pictures, marks, tabs, export, and what arrives while one looks."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

from playwright.async_api import Page, expect
from strands import Agent

from tests.apps.viewer.stored import START, message, session
from tests.browser.conftest import StartViewer
from tests.fixtures.browser import OpenPage, Watch, sideways
from tests.fixtures.sessions import SESSION_ID, Sessions
from tests.support.models import ScriptedModel

REFUND = "?session_id=support-2026-1107"
BLOCKED = "?session_id=support-2026-1093"
LONG = "?session_id=workshop-floor-lamp"


async def test_a_conversation_has_two_sides_and_what_answers_cost(page: Page, samples: str) -> None:
    await page.goto(samples + REFUND)

    await expect(page.locator(".message-user .bubble").first).to_have_text(re.compile("My lamp arrived like this"))
    answer = page.locator(".message-agent").filter(has_text="I am sorry about that")
    await expect(answer.locator("strong", has_text="desk lamp")).to_be_visible()
    await expect(answer.locator("li")).to_have_count(2)
    await expect(answer.locator(".message-meta")).to_contain_text("in")
    await expect(answer.locator(".message-meta")).to_contain_text("to first byte")
    await expect(page.locator(".markdown table")).to_be_visible()
    await expect(page.locator(".event")).to_contain_text("Solved in two minutes")


async def test_tools_unfold_into_trees(page: Page, samples: str) -> None:
    await page.goto(samples + REFUND)
    call = page.locator("details.tool").first
    await expect(call.locator("summary")).to_contain_text("look_up_order")
    await expect(call.locator("summary")).to_contain_text("order_id: A-20771")

    await call.locator("summary").first.click()
    await expect(call.locator(".json").first).to_contain_text('"A-20771"')
    await expect(call.locator(".json").last).to_contain_text('"delivered"')
    await expect(page.locator("details.tool-error summary").first).to_contain_text("failed")

    folded = page.locator("details.disclosure:not([open])")
    await page.get_by_role("button", name="Expand all").click()
    await expect(folded).to_have_count(0)
    await page.get_by_role("button", name="Collapse all").click()
    await expect(page.locator("details.disclosure[open]")).to_have_count(0)


async def test_conversation_only_leaves_what_was_said(page: Page, samples: str) -> None:
    await page.goto(samples + REFUND)
    await expect(page.locator("details.tool").first).to_be_visible()

    await page.get_by_label("Conversation only").check()

    await expect(page.locator("details.disclosure:visible")).to_have_count(0)
    await expect(page.locator(".event:visible")).to_have_count(0)
    await expect(page.get_by_text("I am sorry about that")).to_be_visible()


async def test_a_picture_is_shown_and_enlarged(page: Page, samples: str) -> None:
    await page.goto(samples + REFUND)
    picture = page.locator(".thumb img")
    await expect(picture).to_be_visible()
    await page.wait_for_function("document.querySelector('.thumb img').naturalWidth > 0")

    await page.locator(".thumb").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.locator("img")).to_be_visible()
    large, around = await dialog.locator("img").bounding_box(), await dialog.bounding_box()
    assert large is not None
    assert around is not None
    assert large["width"] >= 512
    assert around["width"] - large["width"] < 60
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(page.get_by_role("heading", level=1, name="support-2026-1107")).to_be_visible()


async def test_redactions_and_guardrails_are_marked(page: Page, samples: str) -> None:
    await page.goto(samples + BLOCKED)

    redacted = page.locator(".message").filter(has=page.locator(".bubble-redacted"))
    await expect(redacted).to_contain_text("[removed: payment card number]")
    await expect(redacted.get_by_text("Redacted", exact=True)).to_be_visible()
    await expect(page.locator(".event", has_text="Guardrail")).to_be_visible()
    await expect(page.get_by_text("4000 1234")).to_have_count(0)


async def test_usage_is_drawn_and_told(page: Page, samples: str) -> None:
    await page.goto(samples + REFUND)
    await page.get_by_role("tab", name="Usage").click()
    await expect(page).to_have_url(re.compile("tab=usage"))

    panel = page.get_by_role("tabpanel", name="Usage")
    await expect(panel.locator("canvas")).to_have_count(2)
    await expect(panel.get_by_role("img", name=re.compile("Tokens per answer, 4 points"))).to_be_visible()
    await expect(panel.get_by_role("region", name="Per agent")).to_contain_text("support")
    await expect(panel.get_by_role("region", name="Per tool")).to_contain_text("look_up_order")
    await panel.get_by_text("Show as a table").first.click()
    await expect(panel.locator(".chart-table tbody tr")).to_have_count(4)


async def test_metadata_and_agents(page: Page, samples: str) -> None:
    await page.goto(f"{samples}{REFUND}&tab=metadata")
    metadata = page.get_by_role("tabpanel", name="Metadata")
    await expect(metadata).to_contain_text("priority")
    await expect(metadata).to_contain_text('"gold"')

    await page.get_by_role("tab", name="Agents").click()
    agents = page.get_by_role("tabpanel", name="Agents")
    await expect(agents).to_contain_text("You are the support agent of a lamp shop.")
    await expect(agents).to_contain_text("example-medium-1")
    await expect(agents.locator(".json")).to_contain_text("refund")


async def test_exports_are_downloaded(page: Page, samples: str, tmp_path: Path) -> None:
    await page.goto(samples + REFUND)
    for label, starts in (("JSON", "{"), ("JSON Lines", "{"), ("Markdown", "#")):
        await page.get_by_label("Export").click()
        async with page.expect_download() as started:
            await page.get_by_role("menuitem", name=label, exact=True).click()
        file = tmp_path / (await started.value).suggested_filename
        await (await started.value).save_as(file)
        text = file.read_text()
        assert text.startswith(starts), label
        assert "I am sorry about that" in text, label
        if label == "JSON":
            assert json.loads(text)["session_id"] == "support-2026-1107"


async def test_a_link_opens_the_session_elsewhere(open_page: OpenPage, samples: str) -> None:
    page = await open_page(permissions=["clipboard-read", "clipboard-write"])
    await page.goto(samples + REFUND)

    await page.get_by_role("button", name="Copy the link").click()
    await expect(page.get_by_text("Link copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == samples + REFUND


async def test_an_unknown_session_says_so(page: Page, samples: str, watch: Watch) -> None:
    watch.allow("status of 404")
    await page.goto(f"{samples}?session_id=nobody")

    await expect(page.get_by_role("heading", name="No such session")).to_be_visible()
    await page.get_by_role("button", name="Back to the list").first.click()
    await expect(page.get_by_role("heading", name="Choose a session")).to_be_visible()


async def test_a_long_conversation_is_read_in_pages(page: Page, samples: str) -> None:
    await page.goto(samples + LONG)
    messages = page.locator(".message")
    await expect(messages.first).to_contain_text("Which bulb")
    assert await messages.count() < 300

    await page.get_by_role("button", name="Latest").click()
    last = page.locator(".message-user").last
    # A question that begins with its number is shown as it was typed, and not as a list.
    await expect(last).to_contain_text("150. ")
    await expect(last).to_be_in_viewport()
    assert await messages.count() < 300

    # Upwards page by page to the start, each time keeping the place.
    while await page.get_by_text("Start of the conversation").count() == 0:
        before = await messages.count()
        await page.locator("#detail").evaluate("(panel) => { panel.scrollTop = 0; }")
        await page.wait_for_function(
            "(count) => document.querySelectorAll('.message').length > count"
            " || document.body.textContent.includes('Start of the conversation')",
            arg=before,
        )
    await expect(messages).to_have_count(300)


async def test_new_messages_appear_and_leave_the_reader_where_they_are(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    manager = sessions.manager()
    async with manager:
        agent = Agent(
            agent_id="guide",
            model=ScriptedModel("Good morning.", *["A long answer.\n\n" * 12] * 6, "The end."),
            session_manager=manager,
            callback_handler=None,
        )
        await agent.invoke_async("Hello?")
        await page.goto(f"{start_viewer()}?session_id={SESSION_ID}")
        await expect(page.locator(".message")).to_have_count(2)
        await expect(page.locator(".live")).to_have_attribute("data-state", "open")

        for number in range(6):
            await agent.invoke_async(f"Question {number}")
        await expect(page.locator(".message")).to_have_count(14)
        await expect(page.locator(".message").last).to_be_in_viewport()

        panel = page.locator("#detail")
        await panel.evaluate("(panel) => { panel.scrollTop = 0; }")
        await agent.invoke_async("The last one")
        await expect(page.get_by_role("button", name=re.compile("new item"))).to_be_visible()
        assert await panel.evaluate("(panel) => panel.scrollTop") == 0
        await page.get_by_role("button", name=re.compile("new item")).click()
        await expect(page.get_by_text("The end.")).to_be_in_viewport()

        await manager.update_metadata({"mood": "cheerful"})
        await manager.add_feedback({"rating": "up", "comment": "Lovely"})
        await expect(page.locator(".event", has_text="Lovely")).to_be_visible()
        await page.get_by_role("tab", name="Metadata").click()
        await expect(page.get_by_text("cheerful").last).to_be_visible()

    sessions.raw.delete_one({"_id": SESSION_ID})
    await expect(page.get_by_text("This session was deleted")).to_be_visible()


async def test_a_paused_session_stays_as_it_is(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    manager = sessions.manager()
    async with manager:
        agent = Agent(agent_id="a", model=ScriptedModel("One.", "Two."), session_manager=manager, callback_handler=None)
        await agent.invoke_async("First")
        await page.goto(f"{start_viewer()}?session_id={SESSION_ID}")
        await expect(page.locator(".live")).to_have_attribute("data-state", "open")

        await page.locator(".live").click()
        await expect(page.locator(".live")).to_have_text("Paused")
        await agent.invoke_async("Second")
        await expect(page.locator(".message")).to_have_count(2)

        await page.locator(".live").click()
        await expect(page.locator(".message")).to_have_count(4)


async def test_five_thousand_messages_show_at_once(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    count = 5000
    messages = [
        message("user" if number % 2 == 0 else "assistant", f"Message **{number}**", minute=number)
        for number in range(count)
    ]
    sessions.raw.insert_one(session("big", created=START - timedelta(days=1), agents={"guide": messages}))

    await page.goto(f"{start_viewer()}?session_id=big")

    await expect(page.locator(".message").first).to_contain_text("Message **0**")
    await expect(page.get_by_role("tab", name="Conversation")).to_contain_text("5K")
    assert await page.locator(".message").count() < 300
    await page.get_by_role("button", name="Latest").click()
    await expect(page.get_by_text(f"Message {count - 1}")).to_be_in_viewport()
    assert await page.locator(".message").count() < 300
    assert await sideways(page) == 0
