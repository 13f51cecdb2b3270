"""Commands that keep a collection up: stats, indexes, repair, sweep, shard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from pymongo.errors import OperationFailure

from ..client import ClientHandle
from ..store.related import PAYLOADS, SEGMENTS
from .commands import FAILED, USAGE, Context, add, moment
from .index_state import index_states, wanted
from .output import advance, shown
from .sessions import DryRun, Yes

Fields = Annotated[
    list[str] | None,
    typer.Option("--metadata-field", help="Metadata field that is searched by; repeatable.", show_default=False),
]

_NAMESPACE_NOT_FOUND = 26
_MIB = 1024 * 1024


@asynccontextmanager
async def _handle(context: Context) -> AsyncIterator[ClientHandle]:
    handle = context.handle()
    try:
        yield handle
    finally:
        await handle.aclose()


async def stats(context: Context) -> None:
    """Show how much is stored: sessions, recent activity, sizes of the three collections."""
    target, out = context.target, context.out
    now = datetime.now(UTC)
    async with context.repository() as repository, _handle(context) as handle:
        version = await handle.server_version()
        sessions = await repository.count_sessions()
        active = {
            name: await repository.count_sessions(updated_from=now - timedelta(days=days))
            for name, days in (("active_1d", 1), ("active_7d", 7), ("active_30d", 30))
        }
        collections = [
            await _collection_stats(handle, target.database_name, f"{target.collection_name}{suffix}")
            for suffix in ("", SEGMENTS, PAYLOADS)
        ]
    out.document({"server_version": version, "sessions": sessions, **active, "collections": collections})
    out.fields({"server": f"MongoDB {version}", "sessions": sessions, **active})
    out.line()
    rows = [
        (
            entry["collection"],
            entry["documents"],
            f"{entry['data_bytes'] / _MIB:.1f}",
            f"{entry['storage_bytes'] / _MIB:.1f}",
            f"{entry['index_bytes'] / _MIB:.1f}",
        )
        for entry in collections
    ]
    out.table(("collection", "documents", "data MiB", "on disk MiB", "indexes MiB"), rows)


async def _collection_stats(handle: ClientHandle, database: str, name: str) -> dict[str, Any]:
    try:
        found = await handle.client[database].command("collStats", name)
    except OperationFailure as error:
        if error.code != _NAMESPACE_NOT_FOUND:
            raise
        found = {}
    return {
        "collection": name,
        "documents": int(found.get("count", 0)),
        "data_bytes": int(found.get("size", 0)),
        "storage_bytes": int(found.get("storageSize", 0)),
        "index_bytes": int(found.get("totalIndexSize", 0)),
    }


async def indexes(
    context: Context,
    metadata_field: Fields = None,
    orders: Annotated[
        bool,
        typer.Option(
            "--orders", help="Also those by which the viewer lists by messages and tokens.", show_default=False
        ),
    ] = False,
    create: Annotated[bool, typer.Option("--create", help="Make those that are missing.", show_default=False)] = False,
) -> None:
    """Show which indexes are there and which are missing, or make them. Exit code 1 when one is not as it should be."""
    target, out = context.target, context.out
    fields, names = metadata_field or [], (target.database_name, target.collection_name)
    async with _handle(context) as handle:
        states = await index_states(handle, *names, fields, orders=orders)
        if create:
            missing = {(state.collection, state.name) for state in states if state.state == "missing"}
            with out.progress("making indexes", len(missing)) as progress:
                for collection, models in wanted(target.collection_name, fields, orders=orders).items():
                    for model in models:
                        if (collection, model.document["name"]) in missing:
                            await handle.collection(target.database_name, collection).create_indexes([model])
                            advance(progress)
            states = await index_states(handle, *names, fields, orders=orders)
    out.document({"indexes": [state.as_dict() for state in states]})
    out.table(
        ("state", "collection", "fields", "name"),
        [(state.state, state.collection, state.keys, state.name) for state in states],
        wide="fields",
    )
    wrong = {state.state for state in states} & {"missing", "different"}
    if "missing" in wrong:
        out.note("Make the missing ones with --create.")
    if "different" in wrong:
        out.note("Those that are different were made with other options: drop them by hand, then use --create.")
    if wrong:
        raise typer.Exit(FAILED)


async def repair(
    context: Context,
    session_ids: Annotated[list[str] | None, typer.Argument(help="Ids of the sessions.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="All sessions.", show_default=False)] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Find tool calls without results and results without calls, and repair them. Says first what is broken, and asks.

    Exit code 1 when something is broken and was not repaired.
    """
    out = context.out
    if bool(session_ids) == everything:
        out.failed("name the sessions to look at, or give --all; one of the two")
        raise typer.Exit(USAGE)
    async with context.repository() as repository:
        total = await repository.count_sessions() if everything else len(session_ids or ())
        reports: list[dict[str, Any]] = []
        with out.progress("looking", total) as progress:
            cursor: str | None = None
            ids = list(session_ids or ())
            while True:
                if everything:
                    page = await repository.list_sessions(limit=100, cursor=cursor)
                    ids, cursor = [entry["session_id"] for entry in page["sessions"]], page["next_cursor"]
                for session_id in ids:
                    report = await repository.repair_session(session_id, dry_run=True)
                    if report["broken"]:
                        reports.append(report)
                    advance(progress)
                if cursor is None:
                    break
        rows = [
            (report["session_id"], agent_id, pair["message_id"], pair["kind"])
            for report in reports
            for agent_id, pairs in report["agents"].items()
            for pair in pairs
        ]
        repaired = 0
        if reports:
            out.table(("session", "agent", "message", "what is broken"), rows)
            if not dry_run:
                out.confirm(f"Repair {len(rows)} places in {len(reports)} sessions of {context.place}?", yes=yes)
                with out.progress("repairing", len(reports)) as progress:
                    for report in reports:
                        await repository.repair_session(report["session_id"], dry_run=False)
                        repaired += 1
                        advance(progress)
    out.document({"looked_at": total, "broken": reports, "repaired": repaired, "dry_run": dry_run})
    out.note(f"Looked at {total} sessions; {len(reports)} broken, {repaired} repaired.")
    if len(reports) > repaired:
        raise typer.Exit(FAILED)


async def sweep(
    context: Context,
    older_than: Annotated[
        str,
        typer.Option(
            help="What was written since is left alone: 1h, 2026-01-31 (a day in UTC), 2026-01-31T09:30+01:00."
        ),
    ] = "1h",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove segments and payloads that no session uses. Says first how many there are, and asks."""
    out = context.out
    before = moment(older_than, "--older-than")
    async with context.repository() as repository:
        with out.progress("looking through segments and payloads"):
            found = await repository.sweep_orphans(older_than=before, dry_run=True)
        removed = {"segments": 0, "payloads": 0}
        out.line(f"unused: {found['segments']} segments, {found['payloads']} payloads")
        if any(found.values()) and not dry_run:
            out.confirm(f"Remove them from the collections beside {context.place}?", yes=yes)
            with out.progress("removing"):
                removed = await repository.sweep_orphans(older_than=before, dry_run=False)
            out.line(f"removed: {removed['segments']} segments, {removed['payloads']} payloads")
    out.document({"unused": found, "removed": removed, "dry_run": dry_run})


async def shard(context: Context) -> None:
    """Print the commands for mongosh that shard the collections. Nothing is sent."""
    target = context.target
    database = target.database_name
    keys = {"": "_id", SEGMENTS: "session_id", PAYLOADS: "session_id"}
    lines = [f'sh.enableSharding("{_script(database)}")']
    lines += [
        f'sh.shardCollection("{_script(database)}.{_script(target.collection_name + suffix)}", {{ {key}: "hashed" }})'
        for suffix, key in keys.items()
    ]
    context.out.document({"commands": lines})
    for line in lines:
        context.out.line(shown(line))
    context.out.note("Run them in mongosh on a mongos, before the first session is stored.")


def _script(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def add_upkeep(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Upkeep"
    add(app, "stats", stats, example="stats --database-name my_app", panel=panel)
    add(app, "indexes", indexes, example="indexes --metadata-field priority --create", panel=panel)
    add(app, "repair", repair, example="repair --all --dry-run", panel=panel)
    add(app, "sweep", sweep, example="sweep --older-than 1d --dry-run", panel=panel)
    add(app, "shard", shard, example="shard --database-name chats", panel=panel)
