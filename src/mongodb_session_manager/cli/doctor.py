"""The command `doctor`: looks at a deployment and says what is wrong, each with what to do."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import metadata
from typing import Annotated

import typer
from pymongo.errors import PyMongoError

from ..advice import advice
from .checks import CHECKS, Finding, Patient, check_connection
from .commands import FAILED, UNREACHABLE, Context, add
from .output import shown
from .upkeep import Fields

_STYLES = {"ok": "green", "note": "yellow", "problem": "red"}
_PACKAGES = ("mongodb-session-manager", "strands-agents", "pymongo", "motor")


async def doctor(
    context: Context,
    metadata_field: Fields = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds that a look may take.")
    ] = 5.0,
) -> None:
    """Look at connection, rights, indexes, versions, clock, write concern and what is slow; say what to do.

    Exit code 1 when there is a problem, 4 when MongoDB cannot be used at all.
    """
    out = context.out
    if context.given and (problem := context.uri_problem()) is not None:
        _report(context, [Finding("connection", "problem", problem, "correct the connection string")])
        raise typer.Exit(UNREACHABLE)
    handle = context.handle(serverSelectionTimeoutMS=round(timeout_s * 1000), connectTimeoutMS=round(timeout_s * 1000))
    try:
        target = context.target
        patient = Patient(
            handle, context.uri, target.database_name, target.collection_name, tuple(metadata_field or ()), timeout_s
        )
        findings = await check_connection(patient)
        reached = all(finding.state != "problem" for finding in findings)
        if reached:
            with out.progress("looking", len(CHECKS)) as progress:
                for check in CHECKS:
                    try:
                        findings += await check(patient)
                    except PyMongoError as error:
                        name = check.__name__.removeprefix("check_").replace("_", " ")
                        said = advice(error, context.uri) or f"{type(error).__name__}"
                        findings.append(Finding(name, "note", f"could not be looked at: {said}"))
                    progress.advance(progress.task_ids[0])
    finally:
        await handle.aclose()
    _report(context, findings)
    if not reached:
        raise typer.Exit(UNREACHABLE)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(FAILED)


def _report(context: Context, findings: list[Finding]) -> None:
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES}
    out = context.out
    out.document({"versions": versions, "findings": [asdict(finding) for finding in findings]})
    out.line(", ".join(f"{name} {version}" for name, version in versions.items()))
    for finding in findings:
        out.line(f"{finding.state:<8} {shown(finding.check)}: {shown(finding.said)}", _STYLES[finding.state])
        if finding.do:
            out.line(f"         -> {shown(finding.do)}")
    count = sum(finding.state == "problem" for finding in findings)
    out.line(f"{count} problem{'' if count == 1 else 's'}")


def add_doctor(app: typer.Typer) -> None:
    """Add the command."""
    add(app, "doctor", doctor, example="doctor --database-name my_app", panel="Upkeep")
