"""A real Jupyter kernel, as it is and under `nest_asyncio`."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.blocks import ROOT
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.invariants import check_stored

_NESTED = """
import nest_asyncio
nest_asyncio.apply()
"""

_CELLS = [
    """
    import asyncio
    from mongodb_session_manager import *
    from tests.support.agents import make_agent
    manager = MongoDBSessionManager("sync", *place)
    agent = make_agent(manager, "a-0", "a-1")
    str(agent("q-0"))
    """,
    """
    await agent.invoke_async("q-1")
    manager.close()
    """,
    """
    manager = await AsyncMongoDBSessionManager("async", *place).open()
    agent = make_agent(manager, "a-0", "a-1")
    await agent.invoke_async("q-0")
    """,
    """
    agent("q-1")
    await manager.close()
    """,
]

_NESTED_CELLS = [
    """
    manager = AsyncMongoDBSessionManager("nested", *place)
    loop = asyncio.get_event_loop()
    loop.run_until_complete(manager.open())
    agent = make_agent(manager, "a-0", "a-1", "a-2")
    asyncio.run(agent.invoke_async("q-0"))
    agent("q-1")
    """,
    """
    async def turn():
        async with manager.turn():
            return await agent.invoke_async("q-2")

    loop.run_until_complete(asyncio.gather(turn(), manager.get_metadata()))
    loop.run_until_complete(manager.update_metadata({"a": 1}))
    asyncio.run(manager.close())
    """,
]


def cell(text: str) -> Any:
    lines = text.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return nbformat.v4.new_code_cell("\n".join(line[indent:] for line in lines))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "nest_asyncio"])
async def test_cells_use_both_managers(nested: bool, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    place = (sessions.uri, sessions.database_name, COLLECTION)
    texts = [f"place = {place!r}\n", *([_NESTED] if nested else []), *_CELLS, *(_NESTED_CELLS if nested else [])]
    notebook = nbformat.v4.new_notebook(cells=[cell(text) for text in texts])  # type: ignore[no-untyped-call]

    # A cell that fails is an error here.
    await NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).async_execute()

    for name in ("sync", "async"):
        assert sessions.texts(session_id=name) == ["q-0", "a-0", "q-1", "a-1"]
        check_stored(sessions.raw.database, name)
    if nested:
        assert sessions.texts(session_id="nested") == ["q-0", "a-0", "q-1", "a-1", "q-2", "a-2"]
        assert sessions.document("nested")["metadata"] == {"a": 1}
