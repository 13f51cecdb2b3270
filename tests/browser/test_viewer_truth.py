"""What every panel shows equals what MongoDB holds, as another client reads it."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from playwright.async_api import Page, expect
from strands import tool

from tests.browser.conftest import StartViewer
from tests.browser.panels import figures, moments, rows, written
from tests.fixtures.sessions import Sessions
from tests.support.agents import AGENT_ID, make_agent
from tests.support.models import Reply, Scripted, calls

Document = dict[str, Any]
THUMBS = {"up": "Positive feedback", "down": "Negative feedback"}


async def store(sessions: Sessions) -> dict[str, Document]:
    """Store two conversations of real agents, rated, with metadata and turns that failed; return them as stored."""

    def look_up(city: str) -> str:
        """Look a city up.

        Args:
            city: Its name.
        """
        if city.endswith("2"):
            raise ValueError("invalid city: it is not on the map")
        return f"{city} has rain"

    for number in (1, 2):
        async with sessions.manager(f"s-{number}", application_name="shop") as manager:
            first = calls(("look_up", {"city": f"Lisbon {number}"}))
            script: list[Scripted] = [first, *(f"Rain {turn}." for turn in range(number))]
            failures = [Reply(error=ConnectionError("away")), Reply(error=TimeoutError("slow"))][: number - 1]
            agent = make_agent(manager, *script, *failures, tools=[tool(look_up)], state={"unit": "mm", "n": number})
            for turn in range(number):
                await agent.invoke_async(f"How is the weather of day {turn} in {number}?")
            for failure in failures:
                with contextlib.suppress(ConnectionError, TimeoutError):
                    await agent.invoke_async(f"And the next day, {failure}?")
            await manager.update_metadata({"priority": "high", "nested": {"deep": [1, number]}})
            for rating in ("up", "down", "up")[: number + 1]:
                await manager.add_feedback({"rating": rating, "comment": f"a comment on {number}"})
    return {name: sessions.document(name) for name in ("s-1", "s-2")}


def messages_of(document: Document) -> list[Document]:
    """Return the stored messages."""
    found: list[Document] = document["agents"][AGENT_ID]["messages"]
    return found


async def test_the_list_shows_what_is_stored(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    documents = await store(sessions)
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(2)

    for name, document in documents.items():
        row, summary = page.locator(f"[data-row='{name}']"), document["summary"]
        await expect(row.locator(".result-title")).to_have_text(document["title"])
        await expect(row.locator(".result-id")).to_have_text(document["_id"])
        assert await moments(row.locator("time")) == [document["updated_at"]]
        failed, agent = len(document["errors"]), document["agents"][AGENT_ID]
        expected = f"{failed} failed turn " if failed else ""
        expected += f"{summary['ratings']['up']} thumbs up {summary['ratings']['down']} thumbs down "
        expected += f"{len(messages_of(document))} messages {agent['usage']['totalTokens']} tokens"
        assert " ".join((await row.locator(".result-facts").inner_text()).split()) == expected
        assert sum(summary["ratings"].values()) == len(document["feedbacks"])
        badges = await row.locator(".result-badges").inner_text()
        assert document["application_name"] in badges
        assert document["metadata"]["priority"] in badges


async def test_the_conversation_shows_what_is_stored(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    documents = await store(sessions)
    await page.goto(f"{start_viewer()}?session_id=s-1&with=s-2")

    for name, document in documents.items():
        side, stored = page.get_by_role("region", name=name), messages_of(document)
        said = [block["text"] for message in stored for block in message["content"] if "text" in block]
        await expect(side.locator(".bubble")).to_have_text(said)
        assert await moments(side.locator(".message time")) == [message["created_at"] for message in stored]
        feedbacks = side.locator(".event").filter(has_text="feedback")
        await expect(feedbacks).to_have_count(len(document["feedbacks"]))
        for event, feedback in zip(await feedbacks.all(), document["feedbacks"], strict=True):
            await expect(event).to_contain_text(THUMBS[feedback["rating"]])
            await expect(event).to_contain_text(feedback["comment"])
            assert await moments(event.locator("time")) == [feedback["created_at"]]
        failures = side.locator(".event").filter(has_text="Turn failed")
        await expect(failures).to_have_count(len(document["errors"]))
        for event, error in zip(await failures.all(), document["errors"], strict=True):
            await expect(event).to_contain_text(f"Turn failed: {error['error']}")
            await expect(event).to_contain_text(error["agent_id"])
            assert await moments(event.locator("time")) == [error["timestamp"]]
        call, result = stored[1]["content"][0]["toolUse"], stored[2]["content"][0]["toolResult"]
        card = side.locator("details.tool")
        await expect(card.locator("summary").first).to_contain_text(f"city: {call['input']['city']}")
        await expect(card.get_by_text("failed")).to_have_count(int(result["status"] == "error"))
        await card.locator("summary").first.click()
        await expect(card.locator(".pre")).to_have_text(result["content"][0]["text"])
        facts = " ".join((await side.locator(".detail-summary").inner_text()).split())
        assert f"{len(stored)} messages" in facts
        assert f"{len(document['feedbacks'])} feedbacks" in facts
        assert ("failed turn" in facts) == bool(document["errors"])


async def test_usage_metadata_and_agents_show_what_is_stored(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    document = (await store(sessions))["s-2"]
    agent, usage = document["agents"][AGENT_ID], document["agents"][AGENT_ID]["usage"]
    await page.goto(f"{start_viewer()}?session_id=s-2&tab=metadata")

    metadata = page.get_by_role("tabpanel", name="Metadata")
    facts, own = metadata.locator("section").first, metadata.locator("section").nth(1)
    await expect(facts.locator("dl > dt")).to_have_text(sorted(document["metadata"]), use_inner_text=True)
    await expect(facts.locator("dd").filter(has_text=re.compile("^high$"))).to_have_count(1)
    await expect(own).to_contain_text(document["_id"])
    await expect(own).to_contain_text(document["application_name"])
    counts = {"Messages": len(messages_of(document)), "Feedback": len(document["feedbacks"]), "Failed turns": 1}
    assert counts["Failed turns"] == len(document["errors"])
    for label, count in counts.items():
        await expect(own).to_contain_text(f"{label}{count}")
    assert await moments(own.locator("time")) == [document["created_at"], document["updated_at"]]

    await page.get_by_role("tab", name="Usage").click()
    panel = page.get_by_role("tabpanel", name="Usage")
    await expect(panel.get_by_role("region", name="Per tool")).to_be_visible()
    assert await figures(panel) == {
        "Input tokens": await written(page, "compact", usage["inputTokens"]),
        "Output tokens": await written(page, "compact", usage["outputTokens"]),
        "Model calls": await written(page, "compact", usage["modelCalls"]),
        "Time in models": await written(page, "duration", usage["latencyMs"]),
    }
    ((name, calls_, failed, *_),) = await rows(panel.get_by_role("region", name="Per tool"))
    tools = usage["tools"]["look_up"]
    assert (name, calls_, failed) == ("look_up", str(tools["call_count"]), str(tools["error_count"]))
    ((id_, messages, received, sent, time_, made),) = await rows(panel.get_by_role("region", name="Per agent"))
    assert (id_, messages) == (AGENT_ID, str(len(messages_of(document))))
    assert [received, sent, made] == [str(usage[key]) for key in ("inputTokens", "outputTokens", "modelCalls")]
    assert time_ == await written(page, "duration", usage["latencyMs"])
    answers = [message for message in messages_of(document) if message["role"] == "assistant"]
    await panel.get_by_text("Show as a table").first.click()
    await expect(panel.locator(".chart-table tbody tr")).to_have_count(len(answers))
    points = await rows(panel.locator(".chart-table").first)
    reported = [message["metadata"]["usage"] for message in answers]
    assert [point[-2:] for point in points] == [[str(u["inputTokens"]), str(u["outputTokens"])] for u in reported]

    await page.get_by_role("tab", name="Agents").click()
    panel = page.get_by_role("tabpanel", name="Agents")
    for text in (AGENT_ID, f"Messages{len(messages_of(document))}", "unit", '"mm"'):
        await expect(panel).to_contain_text(text)
    assert await moments(panel.locator("time")) == [agent["created_at"], agent["updated_at"]]


async def test_totals_show_the_sums_of_what_is_stored(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    documents = (await store(sessions)).values()
    url = start_viewer()
    agents = [document["agents"][AGENT_ID] for document in documents]
    ratings = [feedback["rating"] for document in documents for feedback in document["feedbacks"]]
    sums: dict[str, int] = {
        key: sum(agent["usage"][key] for agent in agents) for key in ("inputTokens", "outputTokens", "latencyMs")
    }
    messages, failed = sum(map(len, map(messages_of, documents))), sum(len(d["errors"]) for d in documents)
    total = sum(agent["usage"]["totalTokens"] for agent in agents)

    await page.goto(f"{url}?view=totals")
    totals = page.locator(".totals")
    await expect(totals.get_by_role("region", name="Over time")).to_be_visible()
    assert await figures(totals) == {
        "Sessions": str(len(documents)),
        "Messages": str(messages),
        "Thumbs up": str(ratings.count("up")),
        "Thumbs down": str(ratings.count("down")),
        "Failed turns": str(failed),
        "Input tokens": await written(page, "compact", sums["inputTokens"]),
        "Output tokens": await written(page, "compact", sums["outputTokens"]),
        "Time in models": await written(page, "duration", sums["latencyMs"]),
    }
    over_time = [row[1:] for row in await rows(totals.get_by_role("region", name="Over time"))]
    numbers = [str(ratings.count("up")), str(ratings.count("down")), str(failed), str(total)]
    assert over_time == [[str(len(documents)), str(messages), *numbers]]
    await page.goto(f"{url}?view=totals&failed=1")
    await expect(totals.get_by_role("region", name="Over time")).to_be_visible()
    assert (await figures(totals))["Sessions"] == str(sum(1 for document in documents if document["errors"]))


async def test_the_api_counts_what_is_stored(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    await store(sessions)
    url = start_viewer()

    for document in sessions.raw.find():
        answer = await page.request.get(f"{url}api/v1/sessions/{document['_id']}")
        head = json.loads(await answer.body())
        assert head["metadata"] == document["metadata"]
        assert head["counts"]["messages"] == len(messages_of(document))
        assert head["counts"]["feedbacks"] == len(document["feedbacks"])
        assert head["errors_count"] == len(document["errors"])
        assert head["usage"]["total_tokens"] == document["summary"]["usage"]["totalTokens"]
        for kind, key, stored in (("feedback", "rating", "feedbacks"), ("error", "error", "errors")):
            items = [item[key] for item in head["timeline"] if item["type"] == kind]
            assert items == [entry[key] for entry in document[stored]]
