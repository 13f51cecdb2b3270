"""What a page or an export costs follows the bytes that are stored, not the number of items."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mongodb_session_manager.viewer import timeline
from tests.apps.viewer.conftest import Viewer
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent
from tests.support.segments import converse

MB = 1024 * 1024


@pytest.fixture
async def heavy(sessions: Sessions, viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> tuple[Viewer, list[list[int]]]:
    """A viewer of a session of 24 messages of 1.5 MB each, and what its pages held: the numbers of their messages."""
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager, agent_id="a"), range(24), size=3 * MB // 2)
        await manager.add_feedback({"rating": "up"})
    pages: list[list[int]] = []
    read = viewer.app.state.database.timeline.page

    async def page(*arguments: Any, **options: Any) -> Any:
        found = await read(*arguments, **options)
        pages.append([item.message_id for item in found.items if item.type == "message"])
        return found

    monkeypatch.setattr(viewer.app.state.database.timeline, "page", page)
    return viewer, pages


@pytest.mark.thorough
async def test_an_export_reads_a_few_megabytes_at_a_time(heavy: tuple[Viewer, list[list[int]]]) -> None:
    viewer, pages = heavy
    lines = (await viewer.client.get("/api/v1/sessions/s-1/export", params={"format": "jsonl"})).text.splitlines()

    assert [json.loads(line).get("message_id") for line in lines[1:]] == [*range(24), None]
    assert [number for page in pages for number in page] == list(range(24))
    # What is not sealed yet stands in one document of at most 16 MB.
    assert max(len(page) for page in pages) * 1.5 <= timeline.PAGE_BYTES / MB + 16


@pytest.mark.thorough
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_are_whole_and_in_order_all_the_same(
    heavy: tuple[Viewer, list[list[int]]], monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    viewer, pages = heavy
    monkeypatch.setattr(timeline, "PAGE_BYTES", 2 * MB)
    items = await viewer.timeline("/api/v1/sessions/s-1", order=order, limit=200)

    numbers = [item.get("message_id") for item in items]
    assert numbers == ([*range(24), None] if order == "asc" else [None, *reversed(range(24))])
    assert len(pages) > 5
