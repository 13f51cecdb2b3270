"""The command `migrate`: takes the sessions of other session managers into a collection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from strands.storage import LocalFileStorage

from ..migrate import (
    FileSource,
    MessageDocumentSource,
    MigrationReport,
    OlderDocumentSource,
    Progress,
    S3Source,
    SnapshotSource,
    Source,
    migrate,
)
from ..store import AsyncMongoDBSessionRepository
from .commands import FAILED, PROGRAM, USAGE, Context, add
from .output import shown
from .sessions import DryRun, Yes


class Kind(StrEnum):
    """Whose sessions they are."""

    file = "file"
    s3 = "s3"
    snapshots = "snapshots"
    documents = "documents"
    messages = "messages"


_PLACES = {
    Kind.file: "a folder of Strands' FileSessionManager",
    Kind.s3: "a bucket of Strands' S3SessionManager, as BUCKET or BUCKET/PREFIX",
    Kind.snapshots: "a folder of Strands' LocalFileStorage",
    Kind.documents: "a collection with one document for each session, as DATABASE.COLLECTION",
    Kind.messages: "a collection with one document for each message, as DATABASE.COLLECTION",
}


async def migrate_(
    context: Context,
    kind: Annotated[Kind, typer.Argument(help="Whose sessions they are.", show_default=False)],
    place: Annotated[
        str,
        typer.Argument(
            help="A folder (file, snapshots), BUCKET/PREFIX (s3), or DATABASE.COLLECTION.", show_default=False
        ),
    ],
    source_connection_string: Annotated[
        str | None, typer.Option(help="MongoDB server of the source, where it is another one.", show_default=False)
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Sessions that are taken at once.")] = 4,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Take sessions of another session manager. Reads all of them first, says what it would take, and asks.

    Nothing of the source is changed, and a run that was cut short may be repeated. Exit code 1 when not all was taken.
    """
    out = context.out
    async with (
        context.repository() as repository,
        _failures_of_s3(context),
        _source(context, kind, place, source_connection_string) as source,
    ):
        report = await _run(context, source, repository, concurrency, dry_run=True)
        _tell(context, report, "would be taken")
        if not dry_run and report.migrated:
            out.confirm(f"Take {report.migrated} sessions into {context.place}?", yes=yes)
            report = await _run(context, source, repository, concurrency, dry_run=False)
            _tell(context, report, "taken")
    out.document({**asdict(report), "complete": report.complete})
    if not report.complete:
        raise typer.Exit(FAILED)


async def _run(
    context: Context, source: Source, target: AsyncMongoDBSessionRepository, concurrency: int, *, dry_run: bool
) -> MigrationReport:
    with context.out.progress("reading" if dry_run else "taking", await source.count() or 0) as bar:

        def show(progress: Progress) -> None:
            bar.update(bar.task_ids[0], completed=progress.done, total=progress.total)

        return await migrate(source, target, dry_run=dry_run, progress=show, concurrency=concurrency)


def _tell(context: Context, report: MigrationReport, done: str) -> None:
    out = context.out
    out.line(
        f"{report.migrated} of {report.sessions} sessions {done}, with {report.messages} messages; "
        f"{report.present} there already, {report.failed} failed"
    )
    rows = [(problem.session_id, problem.agent_id, problem.message, problem.reason) for problem in report.problems]
    if rows:
        out.table(("session", "agent", "message", "why not"), rows)


@asynccontextmanager
async def _failures_of_s3(context: Context) -> AsyncIterator[None]:
    """End a command in one line where S3 cannot be asked: no credentials, no such bucket, no answer."""
    try:
        yield
    except Exception as error:
        # The classes are there only where S3's library is.
        if type(error).__module__.partition(".")[0] not in ("botocore", "boto3"):
            raise
        context.out.failed(f"cannot read the bucket: {shown(error)}", kind=type(error).__name__)
        raise typer.Exit(FAILED) from None


@asynccontextmanager
async def _source(context: Context, kind: Kind, place: str, uri: str | None) -> AsyncIterator[Source]:
    source = _made(context, kind, place, uri)
    try:
        yield source
    finally:
        await source.close()


def _made(context: Context, kind: Kind, place: str, uri: str | None) -> Source:
    if kind is Kind.file:
        return FileSource(place)
    if kind is Kind.snapshots:
        return SnapshotSource(LocalFileStorage(place))
    if kind is Kind.s3:
        bucket, _, prefix = place.partition("/")
        return S3Source(bucket, prefix)
    database, dot, collection = place.partition(".")
    if not dot:
        context.out.failed(f"invalid place {shown(place)!r}: {kind} needs {_PLACES[kind]}")
        raise typer.Exit(USAGE)
    if uri is not None and (problem := context.problem_of(uri, "--source-connection-string")) is not None:
        context.out.failed(problem)
        raise typer.Exit(USAGE)
    # Those of the target, so that it is known when source and target are one collection.
    options: dict[str, Any] = {"minPoolSize": 0, "appname": PROGRAM}
    make = OlderDocumentSource if kind is Kind.documents else MessageDocumentSource
    return make(uri or context.uri, database, collection, **options)


def add_migrate(app: typer.Typer) -> None:
    """Add the command."""
    add(app, "migrate", migrate_, example="migrate file ./sessions --dry-run", panel="Upkeep")
