"""What the playground shows equals what MongoDB holds, as another client reads it."""

from __future__ import annotations

from playwright.async_api import expect

from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.playground.servers import playground
from tests.browser.panels import figures, moments, written
from tests.browser.playground_pages import opened
from tests.fixtures.browser import OpenPage
from tests.fixtures.sessions import Sessions
from tests.support.models import Reply, ScriptedModel, calls


async def test_every_panel_shows_what_is_stored(sessions: Sessions, open_page: OpenPage) -> None:
    model = ScriptedModel(
        calls(("calculator", {"expression": "6 * 7"}), ("calculator", {"expression": "six"})),
        calls(("set_state", {"key": "theme", "value": "dark"})),
        calls(("manage_metadata", {"action": "set", "metadata": {"dog": "Rex"}})),
        "It is 42.",
        Reply(error=ConnectionError("away")),
        "I am back.",
    )
    async with playground(sessions, model) as app:
        for text in ("Six times seven?", "Are you there?", "And now?"):
            await app.chat("s-1", text)
        await app.client.post("/api/sessions/s-1/feedback", json={"rating": "down", "comment": "Dry.", "message_id": 7})
        document = sessions.document("s-1")
        agent, stored = document["agents"][AGENT_ID], sessions.messages(AGENT_ID, "s-1")
        usage, tools = agent["usage"], agent["usage"]["tools"]
        page = await opened(open_page, app, "/?session_id=s-1")
        await expect(page.locator("#message-count")).to_have_text(str(len(stored)))

        # The conversation: what was said, when, what tools were asked and answered, and what somebody thought of it.
        thread = page.locator("#thread")
        said = [block["text"] for message in stored for block in message["content"] if "text" in block]
        await expect(thread.locator(".bubble")).to_have_text(said)
        prompts = [
            n for n, message in enumerate(stored) if message["role"] == "user" and "text" in message["content"][0]
        ]
        replies = [n + 1 for n in prompts if stored[n + 1]["role"] == "assistant"]
        times = [stored[n]["created_at"] for n in sorted(prompts + replies)]
        assert await moments(thread.locator(".message time")) == times
        uses = [block["toolUse"] for message in stored for block in message["content"] if "toolUse" in block]
        results = [block["toolResult"] for message in stored for block in message["content"] if "toolResult" in block]
        cards = thread.locator("details.tool")
        await expect(cards).to_have_count(len(uses))
        for card, use, result in zip(await cards.all(), uses, results, strict=True):
            await expect(card.locator(".tool-name")).to_have_text(use["name"])
            await expect(card.get_by_text("failed", exact=True)).to_have_count(int(result["status"] == "error"))
            await card.locator("summary").first.click()
            await expect(card.locator(".pre").last).to_have_text(result["content"][0]["text"])
        await expect(thread).to_contain_text(document["feedbacks"][0]["comment"])

        # The panel.
        details = page.locator("#details")
        assert await figures(details) == {
            label: await written(page, "compact", usage[key])
            for label, key in (("Input", "inputTokens"), ("Output", "outputTokens"), ("Total", "totalTokens"))
        }
        last = stored[-1]["metadata"]
        tokens = f"{last['usage']['inputTokens']} in · {last['usage']['outputTokens']} out"
        await expect(details.locator("#last-tokens")).to_have_text(tokens)
        latency = await written(page, "duration", last["metrics"]["latencyMs"])
        await expect(details.locator("#last-latency")).to_have_text(latency)
        await expect(details.locator("#model-calls")).to_have_text(str(usage["modelCalls"]))
        await expect(details).to_contain_text(f"Time in all{await written(page, 'duration', usage['latencyMs'])}")
        await expect(details).to_contain_text(f"Model{agent['agent_data']['model']}")
        for name, counts in tools.items():
            line = details.locator(".tool-counts li").filter(has_text=name)
            await expect(line).to_contain_text(f"{counts['call_count']} ×")
            failed = counts.get("error_count", 0)
            await expect(line.get_by_text("failed")).to_have_text([f"{failed} failed"] if failed else [])
        await expect(details.locator("#details-metadata")).to_contain_text('dog: "Rex"')
        assert document["metadata"] == {"dog": "Rex"}
        await expect(details.locator("#details-state")).to_contain_text('theme: "dark"')
        await expect(details.locator("#feedback-count")).to_have_text(str(len(document["feedbacks"])))
        assert await moments(details.locator("time")) == [document["created_at"], document["updated_at"]]

        # The list.
        line = page.locator(".conversation")
        await expect(line.locator(".conversation-title")).to_have_text(document["title"])
        await expect(line).to_contain_text(f"{document['summary']['messages']} messages")
        assert await moments(line.locator("time")) == [document["created_at"]]
