"""What `doctor` looks at. Each check reads, changes nothing, and returns what it found."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any, Literal

from pymongo.errors import OperationFailure, PyMongoError

from ..advice import AUTHENTICATION_CODES, advice, wants_user
from ..client import ClientHandle
from ..client.options import connection_string_options
from ..schema import paths
from ..store.listing import NEWEST_FIRST
from ..store.related import PAYLOADS, SEGMENTS
from .index_state import index_states

OLDEST_SERVER = (4, 4)
CLOCK_S = 2.0
"""Difference of clocks, in seconds, from which dates of messages are misleading."""
ROUND_TRIP_S = 0.05
OPERATION_S = 5
LARGE_BYTES = 12 * 1024 * 1024
SMALL_POOL = 10
_SAMPLE = 2000
_NEEDED = ("find", "insert", "update", "remove")


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: What was looked at.
        state: `ok`; `note`, worth knowing; `problem`, to be changed.
        said: What there is.
        do: What to do about it.
    """

    check: str
    state: Literal["ok", "note", "problem"]
    said: str
    do: str = ""


@dataclass
class Patient:
    """What is looked at.

    Attributes:
        handle: The client.
        uri: Its connection string.
        database: Database of the sessions.
        collection: Collection of the sessions.
        metadata_fields: Metadata fields that are searched by.
        timeout_s: How long a look may take.
        hello: What the server said of itself.
    """

    handle: ClientHandle
    uri: str
    database: str
    collection: str
    metadata_fields: Sequence[str] = ()
    timeout_s: float = 5.0
    hello: Mapping[str, Any] = field(default_factory=dict)

    async def admin(self, command: str, value: Any = 1, **options: Any) -> Mapping[str, Any]:
        """Run a command on the database `admin`."""
        found: Mapping[str, Any] = await self.handle.client.admin.command(command, value, **options)
        return found

    async def sample(self, suffix: str, pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run an aggregation that the server ends after `timeout_s`."""
        target = self.handle.collection(self.database, f"{self.collection}{suffix}")
        return await target.aggregate(pipeline, maxTimeMS=round(self.timeout_s * 1000))

    @property
    def is_replicated(self) -> bool:
        """Whether the server is a member of a replica set, or a router of a cluster."""
        return "setName" in self.hello or self.hello.get("msg") == "isdbgrid"


Check = Callable[[Patient], Awaitable[list[Finding]]]


async def check_connection(patient: Patient) -> list[Finding]:
    """Reach the server, and authenticate."""
    try:
        patient.hello = await patient.admin("hello")
        # The first command that authenticates the user of the connection string, when it names one.
        await patient.handle.client[patient.database].command("ping")
        await _ask_as_user(patient)
    except PyMongoError as error:
        code = getattr(error, "code", None)
        name = "authentication" if code in AUTHENTICATION_CODES or wants_user(error) else "connection"
        said, _, do = (advice(error, patient.uri) or f"{type(error).__name__} ({code})").partition("; ")
        return [Finding(name, "problem", said, do)]
    return [Finding("connection", "ok", "MongoDB answers")]


async def _ask_as_user(patient: Patient) -> None:
    """Run what every user may, and no one who is none where users are checked."""
    try:
        await patient.handle.client[patient.database].command(
            "listCollections", nameOnly=True, authorizedCollections=True
        )
    except OperationFailure as error:
        if wants_user(error):
            raise


async def check_rights(patient: Patient) -> list[Finding]:
    """Compare the user's privileges with what managers do."""
    info = (await patient.admin("connectionStatus", showPrivileges=True))["authInfo"]
    if not info["authenticatedUsers"]:
        return [Finding("rights", "note", "no user: the server lets every client in", "turn authorization on")]
    granted: set[str] = set()
    for privilege in info["authenticatedUserPrivileges"]:
        resource = privilege["resource"]
        fits = resource.get("db") in ("", patient.database) and resource.get("collection") in ("", patient.collection)
        if resource.get("anyResource") or fits:
            granted |= set(privilege["actions"])
    missing = [action for action in _NEEDED if action not in granted and "anyAction" not in granted]
    if missing:
        role = f'{{role: "readWrite", db: "{patient.database}"}}'
        do = f"grant readWrite on the database: db.grantRolesToUser(..., [{role}])"
        return [Finding("rights", "problem", f"the user may not {', '.join(missing)} in {patient.database}", do)]
    if not {"createIndex", "anyAction"} & granted:
        do = "make the indexes as another user, and give ensure_indexes=False"
        return [Finding("rights", "note", "the user may not make indexes", do)]
    return [Finding("rights", "ok", "the user may read, write and make indexes")]


async def check_versions(patient: Patient) -> list[Finding]:
    """Look at the server's version, and at the version of its data."""
    version = await patient.handle.server_version()
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if numbers < OLDEST_SERVER:
        wanted = ".".join(map(str, OLDEST_SERVER))
        return [Finding("version", "problem", f"MongoDB {version}", f"upgrade to {wanted} or later")]
    found = [Finding("version", "ok", f"MongoDB {version}")]
    try:
        answer = await patient.admin("getParameter", featureCompatibilityVersion=1)
    except OperationFailure:
        return found
    compatible = str(answer.get("featureCompatibilityVersion", {}).get("version", ""))
    if compatible and tuple(int(part) for part in compatible.split(".")[:2]) < (numbers[0], 0):
        do = f'finish the upgrade: db.adminCommand({{setFeatureCompatibilityVersion: "{numbers[0]}.0"}})'
        said = f"the data is kept as of MongoDB {compatible}, the server is {version}"
        found.append(Finding("compatibility version", "problem", said, do))
    return found


async def check_topology(patient: Patient) -> list[Finding]:
    """Look at whether a failure of one server is survived."""
    if not patient.is_replicated:
        do = "run a replica set, of three members in production: without one there is no failover"
        return [Finding("topology", "problem", "a standalone server", do)]
    if patient.hello.get("msg") == "isdbgrid":
        return [Finding("topology", "ok", "a sharded cluster")]
    members = len(patient.hello.get("hosts", ())) + len(patient.hello.get("arbiters", ()))
    if members < 3:
        do = "three voting members survive the loss of one"
        return [Finding("topology", "note", f"a replica set of {members}", do)]
    try:
        status = await patient.admin("replSetGetStatus")
    except OperationFailure:
        return [Finding("topology", "ok", f"a replica set of {members}")]
    down = [member["name"] for member in status["members"] if member.get("health") != 1]
    if down:
        return [Finding("topology", "problem", f"members that do not answer: {', '.join(down)}", "start them again")]
    return [Finding("topology", "ok", f"a replica set of {members}, all up")]


async def check_write_concern(patient: Patient) -> list[Finding]:
    """Look at what an acknowledged write survives."""
    concern = patient.handle.client.write_concern.document
    w = concern.get("w", "majority")
    if w == 0:
        return [Finding("write concern", "problem", "w=0: no write is confirmed", "take w=0 out; use w=majority")]
    if concern.get("j") is False:
        return [
            Finding("write concern", "problem", "j=false: a crash loses confirmed writes", "take journal=false out")
        ]
    if w == 1 and patient.is_replicated:
        do = "take w=1 out of the connection string: w=majority survives the loss of a server"
        return [Finding("write concern", "problem", "w=1: a failover loses confirmed writes", do)]
    return [Finding("write concern", "ok", f"w={w}")]


async def check_pool(patient: Patient) -> list[Finding]:
    """Look at the size of the pool that the connection string asks for, and at the server's connections."""
    found = []
    size = connection_string_options(patient.uri).get("maxpoolsize")
    if size is not None and size.isdigit() and 0 < int(size) < SMALL_POOL:
        do = "raise maxPoolSize: requests wait for each other's commands (the default is 100)"
        found.append(Finding("pool", "problem", f"maxPoolSize={size}", do))
    try:
        connections = (await patient.admin("serverStatus"))["connections"]
    except OperationFailure:
        return found
    current, available = connections["current"], connections["available"]
    if available < 0.1 * (current + available):
        do = "close idle clients, make pools smaller (processes x maxPoolSize), or raise the server's limit"
        found.append(Finding("connections", "problem", f"{current} open, {available} left", do))
    else:
        found.append(Finding("connections", "ok", f"{current} open, {available} left"))
    return found


def _now() -> datetime:
    return datetime.now(UTC)


async def check_clock(patient: Patient) -> list[Finding]:
    """Compare this machine's clock with the server's."""
    before = _now()
    theirs = (await patient.admin("hello"))["localTime"]
    after = _now()
    theirs = theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)
    # Somewhere between the two; what the command took is no difference.
    apart_s = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0.0)
    if apart_s > CLOCK_S:
        do = "set both with NTP (timedatectl set-ntp true): dates of messages and expiry follow these clocks"
        return [Finding("clock", "problem", f"{apart_s:.0f} s apart from the server's", do)]
    return [Finding("clock", "ok", "the same as the server's")]


async def check_indexes(patient: Patient) -> list[Finding]:
    """Compare the indexes with those that there should be."""
    states = await index_states(patient.handle, patient.database, patient.collection, patient.metadata_fields)
    found = []
    missing = [f"{state.collection} ({state.keys})" for state in states if state.state == "missing"]
    different = [f"{state.collection}.{state.name}" for state in states if state.state == "different"]
    if missing:
        do = "mongodb-session-manager indexes --create"
        found.append(Finding("indexes", "problem", f"missing: {'; '.join(missing)}", do))
    if different:
        do = "drop them, then mongodb-session-manager indexes --create"
        found.append(Finding("index options", "problem", f"other options: {', '.join(different)}", do))
    return found or [Finding("indexes", "ok", "all there")]


async def check_expiry(patient: Patient) -> list[Finding]:
    """Look at whether the server deletes what has expired."""
    try:
        enabled = (await patient.admin("getParameter", ttlMonitorEnabled=1)).get("ttlMonitorEnabled", True)
    except OperationFailure:
        return []
    if not enabled:
        do = "db.adminCommand({setParameter: 1, ttlMonitorEnabled: true})"
        return [Finding("expiry", "problem", "the server's TTL monitor is off: sessions do not expire", do)]
    return [Finding("expiry", "ok", "the server's TTL monitor is on")]


async def check_profiler(patient: Patient) -> list[Finding]:
    """Look at whether the server writes down every operation."""
    try:
        level = (await patient.handle.client[patient.database].command("profile", -1))["was"]
    except OperationFailure:
        return []
    if level == 2:
        do = "db.setProfilingLevel(0), or 1 for slow operations only"
        return [Finding("profiler", "problem", "every operation is profiled, which makes each slower", do)]
    return []


async def check_speed(patient: Patient) -> list[Finding]:
    """Time round trips, look at how lists are read, and at operations that take long now."""
    found = []
    took = []
    for _ in range(5):
        started = time.perf_counter()
        await patient.admin("ping")
        took.append(time.perf_counter() - started)
    round_trip_s = median(took)
    if round_trip_s > ROUND_TRIP_S:
        do = "run the application near the server (same region and zone); a turn is at least two round trips"
        found.append(Finding("round trip", "problem", f"{1000 * round_trip_s:.0f} ms", do))
    else:
        found.append(Finding("round trip", "ok", f"{1000 * round_trip_s:.1f} ms"))
    found += await _slow_operations(patient)
    return found + await _list_plan(patient)


async def _slow_operations(patient: Patient) -> list[Finding]:
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"ns": {"$regex": f"^{_literal(patient.database)}\\."}, "secs_running": {"$gte": OPERATION_S}}},
        {"$project": {"op": 1, "ns": 1, "secs_running": 1}},
        {"$limit": 5},
    ]
    try:
        cursor = patient.handle.client.admin.aggregate(pipeline)
        running = await cursor.to_list(None)
    except OperationFailure:
        return []
    said = ", ".join(f"{entry.get('op')} on {entry.get('ns')} for {entry.get('secs_running')} s" for entry in running)
    do = "db.currentOp() shows them; mostly an index is missing"
    return [Finding("slow operations", "problem", said, do)] if running else []


async def _list_plan(patient: Patient) -> list[Finding]:
    command = {"find": patient.collection, "filter": {}, "sort": dict(NEWEST_FIRST), "limit": 20}
    try:
        plan = await patient.handle.client[patient.database].command("explain", command, verbosity="queryPlanner")
    except OperationFailure:
        return []
    if "COLLSCAN" in str(plan.get("queryPlanner", plan)):
        do = "mongodb-session-manager indexes --create"
        return [Finding("lists", "problem", "a list of sessions reads the whole collection", do)]
    return []


async def check_documents(patient: Patient) -> list[Finding]:
    """Look at a sample of the newest documents: large ones, and those that older tools left."""
    found = []
    newest: list[dict[str, Any]] = [{"$sort": dict(NEWEST_FIRST)}, {"$limit": _SAMPLE}]
    fields = {"size": {"$bsonSize": "$$ROOT"}, paths.SCHEMA_VERSION: 1}
    for group in await patient.sample("", [*newest, {"$project": fields}, {"$group": _COUNTS}]):
        if group["large"]:
            do = "seal or delete what fills them: feedbacks, agent state or metadata of such sessions"
            said = f"{group['large']} of the newest {group['all']} sessions take more than 12 of 16 MB"
            found.append(Finding("large documents", "problem", said, do))
        if group["older"]:
            do = "nothing has to be done: each is brought up to date when it is opened; migrate does it for all"
            said = f"{group['older']} of the newest {group['all']} sessions are in an older tool's form"
            found.append(Finding("older documents", "note", said, do))
        if not found:
            found.append(Finding("documents", "ok", f"{group['all']} looked at"))
    return found or [
        Finding("documents", "note", "there are no sessions", "check the names of database and collection")
    ]


_COUNTS = {
    "_id": None,
    "all": {"$sum": 1},
    "large": {"$sum": {"$cond": [{"$gt": ["$size", LARGE_BYTES]}, 1, 0]}},
    "older": {"$sum": {"$cond": [{"$eq": [{"$type": f"${paths.SCHEMA_VERSION}"}, "missing"]}, 1, 0]}},
}


async def check_leftovers(patient: Patient) -> list[Finding]:
    """Look at a sample of the segments and payloads for those of sessions that are gone."""
    found = []
    for suffix, what in ((SEGMENTS, "segments"), (PAYLOADS, "payloads")):
        children = await patient.sample(suffix, [{"$limit": _SAMPLE}, {"$group": {"_id": f"${paths.SESSION_ID}"}}])
        ids = [child["_id"] for child in children]
        sessions = patient.handle.collection(patient.database, patient.collection)
        there = {session["_id"] for session in await sessions.find({"_id": {"$in": ids}}, {"_id": 1})} if ids else set()
        gone = [session_id for session_id in ids if session_id not in there]
        if gone:
            said = f"{what} of {len(gone)} sessions that are gone"
            found.append(Finding("leftovers", "problem", said, "mongodb-session-manager sweep"))
    return found


async def check_names(patient: Patient) -> list[Finding]:
    """Look at whether database and collection have names, or the placeholders of the arguments."""
    if patient.database == "database_name" or patient.collection == "collection_name":
        do = "name them: database_name=..., collection_name=... (changing them later leaves the sessions behind)"
        said = f"the sessions are in {patient.database}.{patient.collection}, the placeholders of the arguments"
        return [Finding("names", "problem", said, do)]
    return []


def _literal(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_" else f"\\{letter}" for letter in text)


CHECKS: tuple[Any, ...] = (
    check_rights,
    check_versions,
    check_topology,
    check_write_concern,
    check_pool,
    check_clock,
    check_indexes,
    check_expiry,
    check_profiler,
    check_speed,
    check_documents,
    check_leftovers,
    check_names,
)
"""The checks, in the order of their report; each is a `Check`."""
