"""The metadata tool without a model: called directly, as a test or a script would do it.

The tool answers with text that a model can read and never raises: a mistake in the parameters comes back as advice.
It goes through the metadata hook like every other change, so that a rule for metadata holds for models, too.

    python examples/example_metadata_tool_direct.py
"""

from __future__ import annotations

from typing import Any

from _shared import COLLECTION, DATABASE, heading, new_session_id, run, say

from mongodb_session_manager import AsyncMongoDBSessionManager

PROTECTED = {"tenant"}


async def protect(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
    """Refuse changes of protected fields, by any caller."""
    match action:
        case "update":
            changed = kwargs["metadata"]
        case "delete":
            changed = kwargs["keys"]
        case _:
            return await original_func()
    # A dot addresses a part of a field, which is protected with it.
    if refused := sorted(name for name in changed if name.partition(".")[0] in PROTECTED):
        raise PermissionError(f"protected fields: {', '.join(refused)}")
    return await original_func(changed)


async def main(uri: str) -> None:
    session_id = new_session_id("metadata-direct")
    async with AsyncMongoDBSessionManager(
        session_id, uri, database_name=DATABASE, collection_name=COLLECTION, metadata_hook=protect
    ) as manager:
        tool = manager.get_metadata_tool()

        async def call(action: str, **arguments: Any) -> None:
            say(action, arguments or "")
            say("", await tool(action=action, **arguments))

        heading(f"Store and read ({session_id})")
        await call("get")
        await call("set", metadata={"topic": "MongoDB", "level": 5})
        # Models send objects and arrays as JSON text at times.
        await call("update", metadata='{"level": 6, "reader.name": "Ada"}')
        await call("get")
        await call("get", keys=["level", "reader.name"])

        heading("Remove")
        await call("delete", keys=["topic"])
        await call("get", keys=["topic"])

        heading("Mistakes come back as advice")
        await call("set")
        await call("rename", keys=["level"])
        await call("set", metadata="{level: 7")

        heading("The hook has the last word")
        await call("set", metadata={"tenant": "somebody-else"})
        await call("get")


if __name__ == "__main__":
    run(main)
