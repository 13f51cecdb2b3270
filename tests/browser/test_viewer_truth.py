"""What every panel shows equals what MongoDB holds, as another client reads it."""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.async_api import Locator, Page, expect
from strands import tool

from tests.browser.conftest import StartViewer
from tests.fixtures.sessions import Sessions
from tests.support.agents import AGENT_ID, make_agent
from tests.support.models import Scripted, calls

Document = dict[str, Any]


async def store(sessions: Sessions) -> None:
    """Store two conversations of real agents, rated, with metadata."""

    def look_up(city: str) -> str:
        """Look a city up.

        Args:
            city: Its name.
        """
        return f"{city} has rain"

    for number in (1, 2):
        async with sessions.manager(f"s-{number}", application_name="shop") as manager:
            first = calls(("look_up", {"city": f"Lisbon {number}"}))
            script: list[Scripted] = [first, *(f"Rain {turn}." for turn in range(number))]
            agent = make_agent(manager, *script, tools=[tool(look_up)])
            for turn in range(number):
                await agent.invoke_async(f"How is the weather of day {turn} in {number}?")
            await manager.update_metadata({"priority": "high", "nested": {"deep": [1, number]}})
            for rating in ("up", "down", "up")[: number + 1]:
                await manager.add_feedback({"rating": rating, "comment": f"a comment on {number}"})


def texts(document: Document) -> list[str]:
    """Return the texts of a stored session."""
    messages = document["agents"][AGENT_ID]["messages"]
    return [block["text"] for message in messages for block in message["content"] if "text" in block]


async def shown_facts(row: Locator) -> str:
    """Return the counts of a row as one line."""
    return " ".join((await row.locator(".result-facts").inner_text()).split())


async def test_every_panel_shows_what_is_stored(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    await store(sessions)
    documents = {name: sessions.document(name) for name in ("s-1", "s-2")}
    url = start_viewer()
    await page.goto(url)
    await expect(page.locator("a.result")).to_have_count(2)

    # The list: title, counts, ratings, tokens, badges.
    for name, document in documents.items():
        row, summary = page.locator(f"[data-row='{name}']"), document["summary"]
        await expect(row.locator(".result-title")).to_have_text(document["title"])
        facts = await shown_facts(row)
        expected = f"{summary['ratings']['up']} thumbs up {summary['ratings']['down']} thumbs down "
        expected += f"{summary['messages']} messages {summary['usage']['totalTokens']} tokens"
        assert facts == expected
        assert summary["messages"] == len(document["agents"][AGENT_ID]["messages"])
        assert sum(summary["ratings"].values()) == len(document["feedbacks"])
        badges = await row.locator(".result-badges").inner_text()
        assert document["application_name"] in badges
        assert document["metadata"]["priority"] in badges

    # The conversation, alone and beside another one: what was said, calls and results, feedback.
    await page.goto(f"{url}?session_id=s-1&with=s-2")
    for name, document in documents.items():
        side = page.get_by_role("region", name=name)
        await expect(side.locator(".bubble")).to_have_text(texts(document))
        await expect(side.locator(".event")).to_have_count(len(document["feedbacks"]))
        titles = {"up": "Positive feedback", "down": "Negative feedback"}
        for event, feedback in zip(await side.locator(".event").all(), document["feedbacks"], strict=True):
            await expect(event).to_contain_text(titles[feedback["rating"]])
            await expect(event).to_contain_text(feedback["comment"])
        call = document["agents"][AGENT_ID]["messages"][1]["content"][0]["toolUse"]
        await expect(side.locator(".tool")).to_contain_text([f"city: {call['input']['city']}"])

    # Metadata, usage and agents.
    stored = documents["s-2"]
    await page.goto(f"{url}?session_id=s-2&tab=metadata")
    panel = page.get_by_role("tabpanel", name="Metadata")
    await expect(panel.locator("dt").filter(has_text="priority")).to_have_count(1)
    values = panel.locator("section").first.locator("dd")
    await expect(values).to_have_count(len(stored["metadata"]))
    await expect(values.filter(has_text=re.compile("^high$"))).to_have_count(1)
    own = panel.locator("section").nth(1)
    for value in (stored["_id"], stored["application_name"]):
        await expect(own).to_contain_text(value)
    await expect(own).to_contain_text(f"Messages{stored['summary']['messages']}")
    await page.get_by_role("tab", name="Usage").click()
    usage = stored["agents"][AGENT_ID]["usage"]
    await expect(page.locator(".stat").nth(0)).to_have_text(f"Input tokens{usage['inputTokens']}")
    await expect(page.locator(".stat").nth(1)).to_have_text(f"Output tokens{usage['outputTokens']}")
    await expect(page.locator(".stat").nth(2)).to_have_text(f"Model calls{usage['modelCalls']}")
    await page.get_by_role("tab", name="Agents").click()
    await expect(page.get_by_role("tabpanel", name="Agents")).to_contain_text(AGENT_ID)

    # The totals, against sums that MongoDB makes of its documents.
    await page.goto(f"{url}?view=totals")
    sums = {"messages": "messages", "up": "ratings.up", "down": "ratings.down", "input": "usage.inputTokens"}
    group = {name: {"$sum": f"$summary.{path}"} for name, path in sums.items()}
    (added,) = sessions.raw.aggregate([{"$group": {"_id": None, "sessions": {"$sum": 1}, **group}}])
    labels = {"Sessions": "sessions", "Messages": "messages", "Thumbs up": "up", "Thumbs down": "down"}
    for label, name in {**labels, "Input tokens": "input"}.items():
        await expect(page.locator(".totals .stat").filter(has_text=label)).to_have_text(f"{label}{added[name]}")


async def test_the_api_counts_what_is_stored(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    await store(sessions)
    url = start_viewer()

    for document in sessions.raw.find():
        answer = await page.request.get(f"{url}api/v1/sessions/{document['_id']}")
        head = json.loads(await answer.body())
        assert head["metadata"] == document["metadata"]
        assert head["counts"]["messages"] == len(document["agents"][AGENT_ID]["messages"])
        assert head["counts"]["feedbacks"] == len(document["feedbacks"])
        assert head["usage"]["total_tokens"] == document["summary"]["usage"]["totalTokens"]
        assert [item["rating"] for item in head["timeline"] if item["type"] == "feedback"] == [
            feedback["rating"] for feedback in document["feedbacks"]
        ]
