"""Commands on sessions: list, show, tail, export, delete, fork."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import SessionNotFoundError
from ..flags import COMMAND
from ..schema import paths
from ..schema.moments import cutoff
from ..schema.names import check_session_id
from ..store import AsyncMongoDBSessionRepository
from .commands import NOT_FOUND, USAGE, Context, add, moment
from .export import Format, conversation, export, head_of, message_fields, messages_of
from .files import file_name, whole_file
from .output import advance, shown, when

SessionId = Annotated[str, typer.Argument(help="Id of the session.", show_default=False)]
SessionIds = Annotated[list[str], typer.Argument(help="Ids of the sessions.", show_default=False)]
Agent = Annotated[str | None, typer.Option("--agent", help="Only this agent.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.", show_default=False)]

_PAGE = 100


async def list_(
    context: Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most sessions to list.")] = 20,
    application: Annotated[str | None, typer.Option(help="Only of this application.", show_default=False)] = None,
    agent: Agent = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="Only with this value: field=value, as JSON or as text; repeatable.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Only created since then: 7d, 2026-01-31 (a day in UTC), 2026-01-31T09:30+01:00.", show_default=False
        ),
    ] = None,
    cursor: Annotated[str | None, typer.Option(help="Go on where a list ended.", show_default=False)] = None,
) -> None:
    """List sessions, newest first."""
    wanted = dict(_pair(text) for text in metadata or ())
    async with context.repository() as repository:
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            page = await repository.list_sessions(
                limit=min(limit - len(found), _PAGE),
                cursor=cursor,
                metadata=wanted or None,
                agent_id=agent,
                application_name=application,
                created_from=None if since is None else moment(since, "--since"),
            )
            found += page["sessions"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
    out = context.out
    out.document({"sessions": found, "next_cursor": cursor})
    columns = ("session", "title", "app", "updated", "agents", "messages", "feedback")
    rows = [
        (
            entry["session_id"],
            entry.get("title"),
            entry["application_name"],
            entry["updated_at"],
            entry["agents_count"],
            entry["messages_count"],
            entry["feedbacks_count"],
        )
        for entry in found
    ]
    out.table(columns, rows, wide="title")
    if not found:
        out.note(f"No such sessions in {context.place}.")
    elif cursor is not None:
        out.note(f"There are more: --limit, or --cursor {cursor}")


def _pair(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not field=value", param_hint="--metadata")
    try:
        return field, json.loads(value)
    except ValueError:
        return field, value


async def show(
    context: Context,
    session_id: SessionId,
    agent: Agent = None,
    messages: Annotated[int, typer.Option("--messages", "-n", min=0, help="Last messages of each agent.")] = 20,
) -> None:
    """Show a session: what is known of it, and what was said last."""
    async with context.repository() as repository:
        head = await head_of(repository, session_id)
        agents = [entry for entry in head["agents"] if agent in (None, entry["agent_id"])]
        last = {entry["agent_id"]: await _last(repository, session_id, entry, messages) for entry in agents}
    out = context.out
    out.document({**head, "agents": agents, "messages": [message for said in last.values() for message in said]})
    tokens = head["metrics"]["tokens"]
    out.fields(
        {
            "session": session_id,
            "application": head["application_name"],
            "created": when(head["created_at"]),
            "updated": when(head["updated_at"]),
            "metadata": head["metadata"],
            "agents": ", ".join(
                f"{entry['agent_id']} ({entry['messages_count']} messages)" for entry in head["agents"]
            ),
            "feedback": len(head["feedbacks"]),
            "tokens": tokens["total"],
        }
    )
    for agent_id, said in last.items():
        out.line()
        out.line(f"agent {shown(agent_id)}", "bold")
        _print_messages(context, said)


async def _last(
    repository: AsyncMongoDBSessionRepository, session_id: str, agent: dict[str, Any], count: int
) -> list[dict[str, Any]]:
    if count == 0:
        return []
    start = max(agent["messages_count"] - count, 0)
    found = await repository.list_messages(session_id, agent["agent_id"], limit=count, offset=start)
    return [message_fields(agent["agent_id"], message) for message in found]


def _print_messages(context: Context, messages: list[dict[str, Any]]) -> None:
    for message, (who, text) in zip(messages, conversation(messages), strict=True):
        mark = " (redacted)" if message["redacted"] else ""
        said = shown(text, lines=context.out.is_terminal).replace("\n", "\n  ")  # no line of it is another message
        context.out.line(f"{shown(who)}{mark}: {said}")


async def tail(
    context: Context,
    session_id: SessionId,
    agent: Agent = None,
    messages: Annotated[int, typer.Option("--messages", "-n", min=0, help="Earlier messages to begin with.")] = 10,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Wait for more, until Ctrl+C.")] = True,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Show what is said in a session, as it is said; with --json a line for each message."""
    seen: dict[str, int] = {}
    incarnation: str | None = None
    async with context.repository() as repository:
        first = True
        while True:
            found = await repository._store.find_one({"_id": check_session_id(session_id)}, {paths.INCARNATION: 1})
            if found is None:
                raise SessionNotFoundError(session_id)
            agents = [entry["agent_id"] for entry in await repository.list_agents(session_id)]
            # What was deleted and made again under the same id is shown from its beginning.
            seen = {agent_id: count for agent_id, count in seen.items() if agent_id in agents}
            former, incarnation = incarnation, found.get(paths.INCARNATION)
            if former is not None and incarnation != former:
                seen.clear()
            for agent_id in agents:
                if agent not in (None, agent_id):
                    continue
                if agent_id not in seen:
                    count = await repository.get_message_count(session_id, agent_id)
                    seen[agent_id] = max(count - messages, 0) if first else 0
                async for message in messages_of(repository, session_id, agent_id, seen[agent_id]):
                    seen[agent_id] += 1
                    context.out.document(message)
                    _print_messages(context, [message])
            sys.stdout.flush()
            if not follow:
                return
            first = False
            await asyncio.sleep(every)


async def export_(
    context: Context,
    session_ids: SessionIds,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.json,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, or a folder for several.", show_default=False)
    ] = None,
) -> None:
    """Write whole sessions, to standard output or into files."""
    out = context.out
    if len(session_ids) > 1 and form is not Format.jsonl and (output is None or not output.is_dir()):
        out.failed(f"several sessions as {form} need a folder that exists: --output FOLDER, or --format jsonl")
        raise typer.Exit(USAGE)
    written: list[dict[str, Any]] = []
    async with context.repository() as repository:
        with ExitStack() as all_of_it:
            folder = output if output is not None and output.is_dir() else None
            to = None if output is None or folder else all_of_it.enter_context(whole_file(output))
            names: set[str] = set()
            for session_id in session_ids:
                head = await head_of(repository, session_id)
                if output is None:
                    async for part in export(repository, session_id, form, head):
                        out.text(part)
                    continue
                total = sum(agent["messages_count"] for agent in head["agents"])
                path = folder / file_name(session_id, form, names) if folder else output
                with out.progress(f"exporting {shown(session_id)}", total) as progress, ExitStack() as one_of_it:
                    file = to or one_of_it.enter_context(whole_file(path))
                    async for part in export(repository, session_id, form, head, lambda: advance(progress)):
                        file.write(part)
                written.append({"session_id": session_id, "file": str(path), "messages": total})
    if output is not None:
        out.document({"exported": written})
        for entry in written:
            out.line(f"{shown(entry['session_id'])}: {entry['messages']} messages in {shown(entry['file'])}")


async def delete(
    context: Context,
    session_ids: Annotated[list[str] | None, typer.Argument(help="Ids of the sessions.", show_default=False)] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            help="All without activity since then: 90d, 2026-01-31 (a day in UTC), 2026-01-31T09:30+01:00.",
            show_default=False,
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete sessions with everything that belongs to them. Says first what it would delete, and asks."""
    if bool(session_ids) == bool(older_than):
        context.out.failed("name the sessions to delete, or give --older-than; one of the two")
        raise typer.Exit(USAGE)
    if older_than is not None:
        await _delete_older(context, moment(older_than, "--older-than"), dry_run=dry_run, yes=yes)
    else:
        await _delete_named(context, list(dict.fromkeys(session_ids or ())), dry_run=dry_run, yes=yes)


async def _delete_named(context: Context, session_ids: list[str], *, dry_run: bool, yes: bool) -> None:
    out = context.out
    async with context.repository() as repository:
        found, missing = [], []
        for session_id in session_ids:
            if await repository.check_session_exists(session_id):
                found.append(await head_of(repository, session_id))
            else:
                missing.append(session_id)
        rows = [
            (head["session_id"], when(head["updated_at"]), sum(agent["messages_count"] for agent in head["agents"]))
            for head in found
        ]
        deleted = 0
        if found:
            out.table(("session", "updated", "messages"), rows)
            if not dry_run:
                out.confirm(f"Delete {_sessions(len(found))} from {context.place}?", yes=yes)
                with out.progress("deleting", len(found)) as progress:
                    for head in found:
                        deleted += await repository.delete_session(head["session_id"])
                        advance(progress)
    out.document({"deleted": deleted, "found": [row[0] for row in rows], "missing": missing, "dry_run": dry_run})
    if not dry_run and found:
        out.note(f"Deleted {_sessions(deleted)}.")
    if missing:
        out.failed(f"no such session in {context.place}: {', '.join(map(repr, missing))}")
        raise typer.Exit(NOT_FOUND)


async def _delete_older(context: Context, before: datetime, *, dry_run: bool, yes: bool) -> None:
    out = context.out
    async with context.repository() as repository:
        count = await repository.delete_sessions(older_than=before, dry_run=True)
        what = f"{_sessions(count)} of {context.place} without activity since {shown(cutoff(before))}"
        deleted = 0
        if not count:
            out.line(f"nothing to delete: {what}")
        elif dry_run:
            out.line(f"would delete {what}")
        else:
            out.confirm(f"Delete {what}?", yes=yes)
            with out.progress(f"deleting {_sessions(count)}"):
                deleted = await repository.delete_sessions(older_than=before, dry_run=False)
            out.line(f"deleted {_sessions(deleted)}")
    out.document({"deleted": deleted, "found": count, "dry_run": dry_run})


async def fork(
    context: Context,
    session_id: SessionId,
    new_session_id: Annotated[str, typer.Argument(help="Id of the new session.", show_default=False)],
    up_to_message: Annotated[
        int | None, typer.Option(min=0, help="Last message that it holds; all without it.", show_default=False)
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", help="Whose message that is, of several agents.", show_default=False)
    ] = None,
    metadata: Annotated[bool, typer.Option(help="Take the metadata along.")] = True,
) -> None:
    """Make a new session out of a session, or its beginning; that one stays as it is."""
    async with context.repository() as repository:
        await repository.fork_session(
            session_id, new_session_id, up_to_message=up_to_message, agent_id=agent, metadata=metadata
        )
        head = await head_of(repository, new_session_id)
    messages = sum(entry["messages_count"] for entry in head["agents"])
    context.out.document({"session_id": session_id, "new_session_id": new_session_id, "messages": messages})
    context.out.line(f"{shown(new_session_id)}: {messages} messages of {shown(session_id)}")


def _sessions(count: int) -> str:
    return f"{count} session" if count == 1 else f"{count} sessions"


def sessions_app() -> typer.Typer:
    """Return the group of commands `sessions`."""
    app = typer.Typer(no_args_is_help=True, help="Look at sessions, copy and delete them.", **COMMAND)
    add(app, "list", list_, example="sessions list --since 7d --metadata priority=high")
    add(app, "show", show, example="sessions show customer-12345 --messages 5")
    add(app, "tail", tail, example="sessions tail customer-12345")
    add(app, "export", export_, example="sessions export customer-12345 --format markdown -o talk.md")
    add(app, "delete", delete, example="sessions delete --older-than 90d --dry-run")
    add(app, "fork", fork, example="sessions fork customer-12345 experiment-1 --up-to-message 7")
    return app
