"""`doctor` on deployments that each have one problem, and on one that has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from mongodb_session_manager.cli import checks
from mongodb_session_manager.embedded import EmbeddedMongo
from tests.cli.conftest import Fill, Run
from tests.cli.test_commands import orphan
from tests.fixtures.faults import MongoProxy
from tests.fixtures.sessions import COLLECTION, Sessions

Variables = dict[str, str]


@pytest.fixture
def healthy(run: Run, fill: Fill) -> None:
    """A session, and all indexes."""
    fill("s-1")
    assert run("indexes", "--create").code == 0


def with_option(uri: str, option: str) -> str:
    return f"{uri}{'&' if '?' in uri else '?'}{option}"


@contextmanager
def a_user(sessions: Sessions, role: str, password: str | None = None) -> Iterator[Variables]:
    """Make a user; connect with its password, or another one."""
    admin = sessions.raw.database.client.admin
    name = f"u-{uuid4().hex[:8]}"
    admin.command("createUser", name, pwd="right", roles=[{"role": role, "db": sessions.database_name}])
    address = sessions.uri.partition("://")[2]
    uri = with_option(f"mongodb://{name}:{password or 'right'}@{address}", "authSource=admin")
    try:
        yield {"MONGODB_CONNECTION_STRING": uri}
    finally:
        admin.command("dropUser", name)


@contextmanager
def no_server(sessions: Sessions) -> Iterator[Variables]:
    yield {"MONGODB_CONNECTION_STRING": "mongodb://127.0.0.1:1/"}


@contextmanager
def no_address(sessions: Sessions) -> Iterator[Variables]:
    yield {"MONGODB_CONNECTION_STRING": "mongodb://u:p@ss/w@127.0.0.1/"}


@contextmanager
def no_indexes(sessions: Sessions) -> Iterator[Variables]:
    sessions.raw.drop_indexes()
    yield {}


@contextmanager
def another_index(sessions: Sessions) -> Iterator[Variables]:
    sessions.raw.drop_index("expires_at_1")
    sessions.raw.create_index("expires_at")
    yield {}


@contextmanager
def unconfirmed(sessions: Sessions) -> Iterator[Variables]:
    yield {"MONGODB_CONNECTION_STRING": with_option(sessions.uri, "w=0")}


@contextmanager
def confirmed_by_one(sessions: Sessions) -> Iterator[Variables]:
    yield {"MONGODB_CONNECTION_STRING": with_option(sessions.uri, "w=1")}


@contextmanager
def small_pool(sessions: Sessions) -> Iterator[Variables]:
    yield {"MONGODB_CONNECTION_STRING": with_option(sessions.uri, "maxPoolSize=2")}


@contextmanager
def no_expiry(sessions: Sessions) -> Iterator[Variables]:
    admin = sessions.raw.database.client.admin
    admin.command("setParameter", 1, ttlMonitorEnabled=False)
    try:
        yield {}
    finally:
        admin.command("setParameter", 1, ttlMonitorEnabled=True)


@contextmanager
def profiled(sessions: Sessions) -> Iterator[Variables]:
    sessions.raw.database.command("profile", 2)
    try:
        yield {}
    finally:
        sessions.raw.database.command("profile", 0)


@contextmanager
def large(sessions: Sessions) -> Iterator[Variables]:
    sessions.raw.update_one({"_id": "s-1"}, {"$set": {"metadata.filler": "x" * (13 * 1024 * 1024)}})
    yield {}


@contextmanager
def leftover(sessions: Sessions) -> Iterator[Variables]:
    sessions.raw.database[f"{COLLECTION}_segments"].insert_one(orphan())
    yield {}


@contextmanager
def placeholder(sessions: Sessions) -> Iterator[Variables]:
    yield {"COLLECTION_NAME": "collection_name"}


def reading(sessions: Sessions) -> AbstractContextManager[Variables]:
    return a_user(sessions, "read")


def wrong_password(sessions: Sessions) -> AbstractContextManager[Variables]:
    return a_user(sessions, "readWrite", "hunter2")


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    ("plant", "check", "code", "advice"),
    [
        (no_server, "connection", 4, "check that it runs"),
        (no_address, "connection", 4, "connection string"),
        (wrong_password, "authentication", 4, "authSource"),
        (reading, "rights", 1, "readWrite"),
        (no_indexes, "indexes", 1, "indexes --create"),
        (another_index, "index options", 1, "drop them"),
        (unconfirmed, "write concern", 1, "w=majority"),
        (confirmed_by_one, "write concern", 1, "w=majority"),
        (small_pool, "pool", 1, "maxPoolSize"),
        (no_expiry, "expiry", 1, "ttlMonitorEnabled: true"),
        (profiled, "profiler", 1, "setProfilingLevel"),
        (large, "large documents", 1, "delete"),
        (leftover, "leftovers", 1, "sweep"),
        (placeholder, "names", 1, "database_name="),
    ],
)
def test_a_planted_problem_is_found_with_what_to_do(
    run: Run,
    sessions: Sessions,
    plant: Callable[[Sessions], AbstractContextManager[Variables]],
    check: str,
    code: int,
    advice: str,
) -> None:
    with plant(sessions) as variables:
        found = run("doctor", "--json", "--timeout", "1", **variables)
        told = run("doctor", "--timeout", "1", terminal=80, **variables)

    [problem] = [finding for finding in found.json["findings"] if finding["check"] == check]
    assert problem["state"] == "problem"
    assert advice in problem["do"]
    assert (found.code, told.code) == (code, code)
    assert check in told.plain
    assert not any(word in told.out for word in ("hunter2", "p@ss", "right@"))


@pytest.mark.usefixtures("healthy")
def test_a_deployment_without_problems(run: Run) -> None:
    found = run("doctor", "--json")

    assert [finding for finding in found.json["findings"] if finding["state"] == "problem"] == []
    assert found.code == 0
    assert set(found.json["versions"]) >= {"python", "pymongo", "strands-agents"}


@pytest.mark.usefixtures("healthy")
def test_clocks_that_differ(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_now", lambda: datetime.now(UTC) + timedelta(hours=1))

    found = run("doctor", "--json")

    [clock] = [finding for finding in found.json["findings"] if finding["check"] == "clock"]
    assert (found.code, clock["state"]) == (1, "problem")
    assert "3600 s" in clock["said"]
    assert "NTP" in clock["do"]


@pytest.mark.usefixtures("healthy")
def test_a_server_far_away(run: Run, mongo_proxy: MongoProxy) -> None:
    mongo_proxy.delay_s = 2 * checks.ROUND_TRIP_S

    found = run("doctor", "--json", MONGODB_CONNECTION_STRING=mongo_proxy.uri)

    [trip] = [finding for finding in found.json["findings"] if finding["check"] == "round trip"]
    assert (found.code, trip["state"]) == (1, "problem")
    assert "near the server" in trip["do"]


def test_a_standalone_server_and_data_of_an_older_version(run: Run) -> None:
    with EmbeddedMongo("standalone") as server:
        with MongoClient[dict[str, Any]](server.uri) as client:
            version = client.server_info()["versionArray"][0]
            client.admin.command("setFeatureCompatibilityVersion", f"{version - 1}.0")
        found = run("doctor", "--json", MONGODB_CONNECTION_STRING=server.uri)

    problems = {finding["check"]: finding for finding in found.json["findings"] if finding["state"] == "problem"}
    assert found.code == 1
    assert "replica set" in problems["topology"]["do"]
    assert f"{version}.0" in problems["compatibility version"]["do"]


def test_a_connection_without_a_user_where_users_are_checked(run: Run) -> None:
    with EmbeddedMongo("standalone") as server:
        scheme, _, address = server.uri.partition("://")
        anonymous = {"MONGODB_CONNECTION_STRING": f"{scheme}://{address.partition('@')[2]}"}
        found = run("doctor", "--json", **anonymous)
        listed = run("sessions", "list", **anonymous)

    [finding] = found.json["findings"]
    assert (finding["check"], finding["state"]) == ("authentication", "problem")
    assert "asks for a user" in finding["said"]
    assert "mongodb://user:password@host/" in finding["do"]
    assert "asks for a user" in listed.err
    assert (found.code, listed.code) == (4, 4)
