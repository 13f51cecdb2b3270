from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Route, expect

from mongodb_session_manager.offline import OfflineModel
from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.playground.servers import PausingModel, Playground, playground
from tests.browser.playground_pages import answered, opened, replies, say
from tests.fixtures.browser import OpenPage, Watch
from tests.fixtures.sessions import Sessions
from tests.support.models import Reply, ScriptedModel, calls


def _only_session(sessions: Sessions) -> str:
    [document] = sessions.raw.find({}, {"_id": 1})
    return str(document["_id"])


def _cut_connections(app: Playground) -> None:
    """End every TCP connection at once, as a network does."""
    for connection in list(app.server.server_state.connections):
        transport = getattr(connection, "transport", None)
        if transport is not None:
            transport.abort()


async def test_a_conversation_with_tools_is_shown_as_stored_and_comes_back_with_a_reload(
    sessions: Sessions, open_page: OpenPage
) -> None:
    async with playground(sessions, OfflineModel(delay_s=0.01)) as app:
        page = await opened(open_page, app)
        await expect(page.get_by_role("heading", name="What would you like to try?")).to_be_visible()
        await expect(page.locator("#health")).to_have_text("Offline model")
        await page.get_by_role("button", name="Tell it about you").click()
        await expect(replies(page)).to_contain_text("Your name is Ada")
        await answered(page)

        await say(page, "What is 6 * 7? Please remember that my dog is Rex. Set theme to dark.")
        tool = replies(page).nth(1).locator("details.tool").filter(has_text="calculator")
        await expect(tool).to_contain_text("6 * 7")
        await tool.locator("summary").click()
        await expect(tool.locator("pre")).to_have_text("Result: 42")
        await answered(page)

        # What the panel shows is what MongoDB holds.
        document = sessions.document(_only_session(sessions))
        usage = document["agents"][AGENT_ID]["usage"]
        for part in ("input", "output", "total"):
            await expect(page.locator(f"#stat-{part}")).to_have_attribute("data-value", str(usage[f"{part}Tokens"]))
        await expect(page.locator("#model-calls")).to_have_text(str(usage["modelCalls"]))
        await expect(page.locator("#message-count")).to_have_text(str(len(document["agents"][AGENT_ID]["messages"])))
        await expect(page.locator("#details-metadata")).to_contain_text("Rex")
        await expect(page.locator("#details-state")).to_contain_text("dark")
        link = page.get_by_role("link", name="Open in the session viewer")
        await expect(link).to_have_attribute("href", f"http://127.0.0.1:8882/?session_id={document['_id']}")

        shown = page.locator("#thread").locator(".bubble, summary")
        before = await shown.all_inner_texts()
        await page.reload()
        await expect(replies(page)).to_have_count(2)
        assert await shown.all_inner_texts() == before


async def test_feedback_that_is_sent_by_a_key_pressed_quickly_is_stored_once(
    sessions: Sessions, open_page: OpenPage
) -> None:
    async with playground(sessions, ScriptedModel("One.")) as app:
        page = await opened(open_page, app)
        await say(page, "Question")
        await answered(page)

        await replies(page).first.get_by_role("button", name="Good reply").click()
        await page.get_by_label("Comment").fill("Fine.")
        await page.get_by_label("Comment").evaluate(
            """(field) => {
                const press = { key: "Enter", ctrlKey: true, bubbles: true };
                for (let time = 0; time < 8; time++) field.dispatchEvent(new KeyboardEvent("keydown", press));
            }"""
        )
        await expect(page.locator("#feedback-count")).to_have_text("1")
        await page.reload()
        await expect(replies(page).first).to_contain_text("Fine.")
        assert len(sessions.document(_only_session(sessions))["feedbacks"]) == 1


async def test_feedback_is_kept_and_a_conversation_is_deleted_after_a_question(
    sessions: Sessions, open_page: OpenPage
) -> None:
    async with playground(sessions, ScriptedModel("One.", "Two.")) as app:
        page = await opened(open_page, app)
        for number, reply in enumerate(("One.", "Two.")):
            await say(page, f"Question {number}")
            await expect(replies(page).nth(number)).to_contain_text(reply)
            await answered(page)

        await replies(page).nth(1).get_by_role("button", name="Bad reply").click()
        await page.get_by_label("Comment").fill("Too dry.")
        await page.get_by_role("button", name="Send feedback").click()
        await expect(page.locator("#feedback-count")).to_have_text("1")
        await expect(replies(page).nth(1).get_by_role("button", name="Bad reply")).to_have_attribute(
            "aria-pressed", "true"
        )
        await page.reload()
        await expect(replies(page).nth(1)).to_contain_text("Too dry.")
        [feedback] = sessions.document(_only_session(sessions))["feedbacks"]
        assert (feedback["rating"], feedback["comment"], feedback["message_id"]) == ("down", "Too dry.", 3)

        await page.get_by_role("link", name="New conversation").click()
        await expect(replies(page)).to_have_count(0)
        await page.go_back()
        await expect(replies(page)).to_have_count(2)

        await page.get_by_role("button", name="Delete conversation", exact=True).click()
        await page.get_by_role("button", name="Cancel").click()
        assert sessions.raw.count_documents({}) == 1
        await page.get_by_role("button", name="Delete conversation", exact=True).click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("heading", name="What would you like to try?")).to_be_visible()
        await expect(page.locator(".conversation")).to_have_count(0)
        assert sessions.raw.count_documents({}) == 0


async def test_a_lost_connection_is_taken_up_again_and_a_reload_joins_the_reply(
    sessions: Sessions, open_page: OpenPage, watch: Watch
) -> None:
    watch.allow("net::ERR_")  # the browser's report of what the test cuts
    model = PausingModel("The first half, and the second half.", "Another one, in two parts.")
    async with playground(sessions, model) as app:
        page = await opened(open_page, app)
        await say(page, "Tell me something")
        await expect(replies(page)).to_contain_text("The first half")
        _cut_connections(app)
        await expect(page.locator(".notice")).to_contain_text("The connection was lost")
        await page.get_by_role("button", name="Try now").click()
        await expect(page.locator(".notice")).to_have_count(0)
        model.resume.set()
        await expect(replies(page)).to_contain_text("and the second half.")
        await answered(page)
        assert app.stored(_only_session(sessions))[-1][1] == "The first half, and the second half."

        model.paused.clear()
        model.resume.clear()
        await say(page, "And more")
        await model.paused.wait()
        await page.reload()
        await expect(page.locator("#thread .message-user")).to_have_count(2)
        await expect(replies(page).nth(1)).to_contain_text("Another one")
        await expect(page.get_by_role("button", name="Stop the reply")).to_be_visible()
        model.resume.set()
        await expect(replies(page).nth(1)).to_contain_text("in two parts.")
        await answered(page)
        await expect(page.locator("#thread .message")).to_have_count(4)


@pytest.mark.slow
async def test_a_reply_is_stopped_and_its_first_half_kept(sessions: Sessions, open_page: OpenPage) -> None:
    model = PausingModel("The first half, and the second half.")
    async with playground(sessions, model) as app:
        page = await opened(open_page, app)
        await say(page, "Talk")
        await expect(replies(page)).to_contain_text("The first half")
        await page.get_by_role("button", name="Stop the reply").click()
        await app.told_to_stop(_only_session(sessions))
        model.resume.set()
        await answered(page)
        await page.reload()
        await expect(replies(page)).to_contain_text("The first half")

    [_, (_, kept)] = app.stored(_only_session(sessions))
    assert kept
    assert "The first half, and the second half.".startswith(kept)
    assert not kept.endswith("second half.")


@pytest.mark.slow
async def test_what_goes_wrong_is_said_with_a_way_on(sessions: Sessions, open_page: OpenPage, watch: Watch) -> None:
    watch.allow("status of (404|409|422|503)")
    held = PausingModel(Reply(error=RuntimeError("the provider is on holiday")), "Now it works.", "In the other tab.")
    held.resume.set()
    async with playground(sessions, held) as app:
        page = await opened(open_page, app)
        await say(page, "Hello?")
        await expect(page.get_by_role("alert")).to_contain_text("the provider is on holiday")
        await page.get_by_role("button", name="Send again").click()
        await expect(replies(page)).to_contain_text("Now it works.")
        await answered(page)
        await expect(page.get_by_role("alert")).to_have_count(0)

        held.resume.clear()
        held.paused.clear()
        session_id = _only_session(sessions)
        async with app.stream(session_id, "Asked from another tab") as events:
            await anext(events)
            await say(page, "Me, too")
            await expect(page.locator(".notice")).to_contain_text("answering another message")
            await expect(page.get_by_role("textbox", name="Message")).to_have_value("Me, too")
            await page.get_by_role("button", name="Show that reply").click()
            await expect(replies(page).last).to_contain_text("In the")
            held.resume.set()
            await expect(replies(page).last).to_contain_text("In the other tab.")
            await answered(page)

        await page.goto("/?session_id=nobody")
        await expect(page.get_by_role("heading", name="This conversation is not here")).to_be_visible()

        async def unavailable(route: Route) -> None:
            error = {"code": "database_unavailable", "message": "the database does not answer", "fields": []}
            await route.fulfill(status=503, json={"error": error})

        await page.route("**/api/sessions/chat-*", unavailable)
        await page.goto(f"/?session_id={session_id}")
        await expect(page.get_by_role("alert")).to_contain_text("The database does not answer")
        await page.get_by_role("textbox", name="Message").fill("Is it there?")
        await expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
        await page.unroute("**/api/sessions/chat-*")
        await page.get_by_role("button", name="Try again").click()
        await expect(replies(page)).to_have_count(2)
        await expect(page.get_by_role("button", name="Send", exact=True)).to_be_enabled()

        for address in ("..%2F..%2Fhealth", "-x", "%00", "%3Cscript%3E"):
            await page.goto(f"/?session_id={address}")
            await expect(page.get_by_role("heading", name="This conversation is not here")).to_be_visible()


HOSTILE = """<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">
<svg onload="window.hacked = 3"><a href="javascript:window.hacked=4">x</a><iframe src="https://evil.example/"></iframe>

[click](javascript:window.hacked=5) [data](data:text/html,<script>window.hacked=6</script>)
![pixel](https://evil.example/pixel.png) <style>body{display:none}</style> <form action="https://evil.example/">

[x]: https://evil.example/ "' onmouseover='window.hacked=7"
[ref][x]

| <b onclick="window.hacked=8">h</b> |
|:-:|
| `<script>` |
"""


@pytest.mark.slow
async def test_hostile_content_stays_text(sessions: Sessions, open_page: OpenPage) -> None:
    wide, bidi = "W" * 3000, "\u202egnp.exe\u2066"
    metadata = {"<img src=x onerror=window.hacked=9>": HOSTILE, wide: [wide, {"__proto__": HOSTILE}], bidi: bidi}
    model = ScriptedModel(
        calls(("manage_metadata", {"action": "set", "metadata": metadata}), text=HOSTILE),
        calls(("<script>window.hacked=10</script>", {HOSTILE: HOSTILE}), text=wide),
        HOSTILE + bidi,
        strict=False,
    )
    async with playground(sessions, model) as app:
        page = await opened(open_page, app, viewport={"width": 1440, "height": 900})
        await say(page, HOSTILE)
        await answered(page)
        await page.reload()
        await answered(page)
        await replies(page).get_by_role("button", name="Good reply").click()
        await page.get_by_label("Comment").fill(HOSTILE)
        await page.get_by_role("button", name="Send feedback").click()
        await expect(page.locator("#feedback-count")).to_have_text("1")
        folded = page.locator("#thread, #details").locator("details:not([open]) > summary:visible")
        while await folded.count():
            await folded.first.click()
        for width in (1440, 900, 360):
            await page.set_viewport_size({"width": width, "height": 800})
            wider = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wider <= 0, width
            thread = "document.querySelector('#thread-scroll')"
            assert await page.evaluate(f"{thread}.scrollWidth - {thread}.clientWidth") <= 0, width

        assert await page.evaluate("window.hacked") is None
        inside = page.locator("#thread, #details, #list")
        assert await inside.locator("script, iframe, style, form:not(.feedback-form), img, [onclick]").count() == 0
        addresses = await inside.locator("a").evaluate_all("links => links.map(link => link.protocol)")
        assert set(addresses) <= {"http:", "https:"}


@pytest.mark.slow
async def test_it_works_on_a_phone_and_by_keyboard_alone(sessions: Sessions, open_page: OpenPage) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True}
    async with playground(sessions) as app:
        await app.chat("first", "This is the first one")
        page = await opened(open_page, app, **phone)
        await expect(page.locator(".welcome .state-art")).to_be_in_viewport(ratio=1)
        for name in ("Conversations", "Session"):
            button = page.get_by_role("banner").get_by_role("button", name=name)
            await button.click()
            await expect(button).to_have_attribute("aria-expanded", "true")
            await page.keyboard.press("Escape")
            await expect(button).to_be_focused()
            await expect(button).to_have_attribute("aria-expanded", "false")
        await page.get_by_role("banner").get_by_role("button", name="Conversations").click()
        await page.get_by_role("link", name="This is the first one").click()
        await expect(replies(page)).to_have_count(1)
        await expect(page.get_by_role("link", name="This is the first one")).not_to_be_in_viewport()

        page = await opened(open_page, app)
        await expect(page.get_by_role("textbox", name="Message")).to_be_focused()
        await page.keyboard.type("My name is Ada.")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("I live in Paris.")
        await page.keyboard.press("Enter")
        await expect(replies(page)).to_contain_text("Your name is Ada, and you live in Paris.")
        await answered(page)
        await expect(page.get_by_role("textbox", name="Message")).to_be_focused()
        await page.keyboard.press("Control+Home")
        good = page.get_by_role("button", name="Good reply")
        while not await good.evaluate("button => button === document.activeElement"):
            await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await page.keyboard.type("Nice")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("#feedback-count")).to_have_text("1")
        await expect(good).to_be_focused()


@pytest.mark.slow
async def test_a_long_conversation_is_read_backwards(sessions: Sessions, open_page: OpenPage) -> None:
    async with playground(sessions, ScriptedModel(otherwise="Yes.")) as app:
        for number in range(60):
            await app.chat("long", f"Number {number}")
        page = await opened(open_page, app, "/?session_id=long")
        await expect(page.locator("#thread .message")).to_have_count(100)
        await expect(page.get_by_text("Number 59", exact=True)).to_be_in_viewport()
        await expect(page.get_by_text("Number 9", exact=True)).to_have_count(0)
        await page.get_by_role("button", name="earlier messages").click()
        await expect(page.locator("#thread .message")).to_have_count(120)
        await expect(page.get_by_role("button", name="earlier messages")).to_have_count(0)
        await page.get_by_role("button", name="Jump to latest").click()
        await expect(page.get_by_text("Number 59", exact=True)).to_be_in_viewport()
        await say(page, "One more")
        await expect(page.locator("#thread .message")).to_have_count(122)
        await answered(page)
        await expect(page.get_by_text("One more", exact=True)).to_be_in_viewport()
