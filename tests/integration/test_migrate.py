"""Sessions of other session managers are taken over: whole, once, and nothing of the source is changed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import bson
import pytest
from strands import Agent
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.session import FileSessionManager, SnapshotSessionManager
from strands.storage import LocalFileStorage
from strands.types.content import ContentBlock

from mongodb_session_manager import AsyncMongoDBSessionRepository, MongoDBSessionRepository
from mongodb_session_manager.migrate import (
    FileSource,
    MessageDocumentSource,
    OlderDocumentSource,
    Progress,
    S3Source,
    SnapshotSource,
    Source,
    migrate,
    migrate_sessions,
)
from tests.contract.drivers import Driver, mock
from tests.fixtures.aws import Moto
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.agents import make_agent
from tests.support.invariants import check_stored
from tests.support.migration_sources import (
    AGENT,
    COUNT,
    log_objects,
    message_documents,
    older_document,
    source_of,
    write_documents,
    write_files,
    write_s3,
    write_snapshots,
)
from tests.support.models import ScriptedModel, texts

KINDS = ["file", "snapshots", "documents", "messages", "s3"]


@pytest.fixture
async def target(sessions: Sessions) -> AsyncIterator[AsyncMongoDBSessionRepository]:
    async with AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION) as repository:
        yield repository


class Place:
    """Where a source of a kind is, and how to tell that it is unchanged."""

    def __init__(self, kind: str, sessions: Sessions, folder: Path, request: pytest.FixtureRequest) -> None:
        self._kind = kind
        self._sessions = sessions
        self._folder = folder
        self._s3: Any = None
        self.address = sessions.uri if kind in ("documents", "messages") else str(folder)
        if kind == "s3":
            moto: Moto = request.getfixturevalue("moto")
            self.address = moto.url
            import boto3  # type: ignore[import-untyped]

            options = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
            self._s3 = boto3.client("s3", endpoint_url=moto.url, **options)
            self._bucket = sessions.database_name.replace("_", "-")
            self._s3.create_bucket(Bucket=self._bucket)

    def fill(self, names: list[str]) -> None:
        if self._kind == "file":
            write_files(str(self._folder), names)
        elif self._kind == "snapshots":
            write_snapshots(str(self._folder), names)
        elif self._kind == "s3":
            write_s3(self._s3, self._bucket, names)
        else:
            write_documents(self._sessions.uri, self._sessions.database_name, self._kind, names)

    def source(self) -> Source:
        return source_of(self._kind, self.address, self._sessions.database_name)

    def digest(self) -> str:
        found = hashlib.sha256()
        for path in sorted(self._folder.rglob("*")):
            found.update(str(path).encode())
            found.update(path.read_bytes() if path.is_file() else b"")
        if self._s3 is not None:
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
                for entry in page.get("Contents", ()):
                    found.update(f"{entry['Key']} {entry['ETag']}".encode())
        database = self._sessions.raw.database
        for document in database[f"source {self._kind}"].find().sort("_id"):
            found.update(bson.encode(document))
        return found.hexdigest()


@pytest.fixture
def place_of(sessions: Sessions, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Place]:
    return lambda kind: Place(kind, sessions, tmp_path, request)


def expected_texts(session: str) -> list[str]:
    return [f"{session} says {number}" for number in range(COUNT)]


@pytest.mark.matrix
@pytest.mark.parametrize("kind", KINDS)
async def test_sessions_of_every_kind_are_taken_over(
    kind: str, sessions: Sessions, target: AsyncMongoDBSessionRepository, place_of: Callable[[str], Place]
) -> None:
    place, names = place_of(kind), [f"session {n}" for n in range(12)]
    place.fill(names)
    before = place.digest()
    seen: list[Progress] = []

    source = place.source()
    dry = await migrate(source, target)
    assert (dry.dry_run, dry.sessions, dry.migrated, dry.messages, dry.complete) == (True, 12, 12, 48, True)
    assert sessions.raw.count_documents({}) == 0

    report = await migrate(source, target, dry_run=False, progress=lambda progress: seen.append(progress))
    assert (report.migrated, report.present, report.failed, report.messages) == (12, 0, 0, 48), report.problems
    assert report.complete
    assert [seen[-1].done, len(seen)] == [12, 12]
    again = await migrate(source, target, dry_run=False)
    await source.close()

    assert (again.migrated, again.present, again.failed) == (0, 12, 0), again.problems
    assert place.digest() == before
    for name in names:
        document = check_stored(sessions.raw.database, name)
        assert document["migrated_from"]["verified"]
        assert document["created_at"].year == 2024
        assert document["updated_at"].year == 2024
        assert document["summary"]["usage"]["totalTokens"] == 6
        assert document["title"] == expected_texts(name)[0]
        messages = await target.list_messages(name, AGENT)
        said = [message.to_message() for message in messages]
        assert texts(said) == expected_texts(name)
        assert said[0]["content"][1]["image"]["source"]["bytes"] == b"abc"
        assert said[0].get("tracking_id") == f"{name}-0"
        agent = await target.read_agent(name, AGENT)
        assert agent is not None
        assert agent.state == {"a.b": {"$c": 1}}
    async with sessions.manager(names[0]) as manager:
        resumed = make_agent(manager, "ok", agent_id=AGENT)
        assert texts(resumed.messages) == expected_texts(names[0])
        await resumed.invoke_async("Go on.")


async def test_what_an_older_document_holds_beside_its_agents_comes_along(
    sessions: Sessions, target: AsyncMongoDBSessionRepository
) -> None:
    older = {**older_document("s-1"), "colour": "green", "session_viewer_password": "p" * 32}
    sessions.raw.database["older"].insert_one(older)
    source = OlderDocumentSource(sessions.uri, sessions.database_name, "older")

    report = await migrate(source, target, dry_run=False)
    await source.close()

    assert report.complete, report.problems
    document = check_stored(sessions.raw.database, "s-1")
    assert (document["colour"], document["metadata"]) == ("green", {"topic": "weather"})
    assert document["session_viewer_password"] == "p" * 32
    assert document["summary"]["feedbacks"] == 1
    assert [feedback["rating"] for feedback in await target.get_feedbacks("s-1")] == ["up"]


async def test_a_conversation_that_outgrows_a_document_is_taken_over(
    sessions: Sessions, target: AsyncMongoDBSessionRepository, tmp_path: Path
) -> None:
    for key, value in log_objects("long", 1500).items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if "message_" in key:
            value["message"]["content"][0]["text"] = value["message"]["content"][0]["text"].ljust(1000, ".")
        if key.endswith("message_3.json"):
            value["message"]["content"][0]["image"] = {"format": "png", "source": {"bytes": "x"}}
            value["message"]["content"] = [{"text": "long says 3"}, {"document": {"bytes": "y" * 100}}]
        path.write_text(json.dumps(value))

    report = await migrate(FileSource(str(tmp_path)), target, dry_run=False)

    assert report.complete, report.problems
    document = check_stored(sessions.raw.database, "long")
    assert len(bson.encode(document)) < 200_000
    assert document["agents"][AGENT]["archived_count"] > 1000
    assert await target.get_message_count("long", AGENT) == 1500
    page = await target.list_messages("long", AGENT, limit=2, offset=700)
    assert [message.message_id for message in page] == [700, 701]


async def test_real_session_managers_of_strands(
    sessions: Sessions, target: AsyncMongoDBSessionRepository, tmp_path: Path
) -> None:
    window = SlidingWindowConversationManager

    def agent(manager: Any, *script: str) -> Agent:
        return Agent(
            agent_id=AGENT,
            model=ScriptedModel(*script),
            session_manager=manager,
            callback_handler=None,
            conversation_manager=window(4),
        )

    logged = agent(FileSessionManager("logged", storage_dir=str(tmp_path / "log")), *"abcde")
    storage = LocalFileStorage(str(tmp_path / "snapshots"))
    snapped = agent(SnapshotSessionManager("snapped", storage=storage), *"abcde")
    for live in (logged, snapped):
        for prompt in "12345":
            live.state.set("last", prompt)
            content: list[ContentBlock] = [
                {"text": prompt},
                {"image": {"format": "png", "source": {"bytes": b"abc"}}},
            ]
            await live.invoke_async(content)

    assert (await migrate(FileSource(str(tmp_path / "log")), target, dry_run=False)).complete
    assert (await migrate(SnapshotSource(storage), target, dry_run=False)).migrated == 1

    assert await target.get_message_count("logged", AGENT) == 10
    for name, live in (("logged", logged), ("snapped", snapped)):
        async with sessions.manager(name) as manager:
            resumed = make_agent(manager, agent_id=AGENT, conversation_manager=window(4))
            assert resumed.messages == live.messages
            assert resumed.state.get() == {"last": "5"}


async def test_what_cannot_be_taken_is_reported_and_the_rest_is_taken(
    sessions: Sessions, target: AsyncMongoDBSessionRepository, tmp_path: Path
) -> None:
    write_files(str(tmp_path), ["good", "bad message", "no record", "taken"])
    messages = tmp_path / "session_bad message" / "agents" / f"agent_{AGENT}" / "messages"
    (messages / "message_1.json").write_text("{ half")
    (messages / "message_2.json").write_text('{"message": {"content": []}}')
    (tmp_path / "session_no record" / "session.json").unlink()
    sessions.raw.insert_one({"_id": "taken", "colour": "green"})

    report = await migrate(FileSource(str(tmp_path)), target, dry_run=False)

    assert (report.migrated, report.failed, report.problem_count) == (2, 2, 4)
    found = {(p.session_id, p.message): p.reason for p in report.problems}
    assert found["bad message", "message_1.json"] == "message_1.json is not JSON"
    assert "it has no role" in found["bad message", "message_2.json"]
    assert "session.json is missing" in found["no record", None]
    assert "came from elsewhere" in found["taken", None]
    assert sessions.raw.find_one({"_id": "taken"}) == {"_id": "taken", "colour": "green"}
    assert texts([m.to_message() for m in await target.list_messages("bad message", AGENT)]) == [
        "bad message says 0",
        "bad message says 3",
    ]
    check_stored(sessions.raw.database, "bad message")


def nested(levels: int) -> str:
    """Return JSON that is nested so deep, which `json.dumps` could not write."""
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize("levels", [300, 900, 100_000])
@pytest.mark.parametrize("place", ["message", "agent", "multi-agent", "session", "snapshot", "message document"])
async def test_what_is_nested_too_deep_is_reported_and_the_rest_is_taken(
    sessions: Sessions, target: AsyncMongoDBSessionRepository, tmp_path: Path, place: str, levels: int
) -> None:
    ids, kind = ["s-1", "s-2", "s-3"], {"snapshot": "snapshots", "message document": "messages"}.get(place, "file")
    folder = tmp_path / "session_s-2"
    if kind == "messages":
        write_documents(sessions.uri, sessions.database_name, kind, ids)
        data = f'{{"message": {{"role": "user", "content": [{nested(levels)}]}}}}'
        query = {"pk": f"SESSION#s-2#AGENT#{AGENT}", "sk": f"MSG#{0:020}"}
        updated = sessions.raw.database[f"source {kind}"].update_one(query, {"$set": {"data": data}})
        assert updated.matched_count == 1
    elif kind == "snapshots":
        write_snapshots(str(tmp_path), ids)
        snapshots = tmp_path / "session" / "s-2" / "scopes" / "agent" / AGENT / "snapshots"
        (snapshots / "snapshot_latest.json").write_text(f'{{"data": {{"state": {nested(levels)}}}}}')
    else:
        write_files(str(tmp_path), ids)
        files = {
            "message": folder / "agents" / f"agent_{AGENT}" / "messages" / "message_1.json",
            "agent": folder / "agents" / f"agent_{AGENT}" / "agent.json",
            "multi-agent": folder / "multi_agents" / "multi_agent_m" / "multi_agent.json",
            "session": folder / "session.json",
        }
        files[place].parent.mkdir(parents=True, exist_ok=True)
        inside = f'{{"role": "user", "content": [{nested(levels)}]}}'
        files[place].write_text(f'{{"message": {inside}, "state": {nested(levels)}, "created_at": {nested(levels)}}}')

    address = sessions.uri if kind == "messages" else str(tmp_path)
    source = source_of(kind, address, sessions.database_name)
    report = await migrate(source, target, dry_run=False)
    await source.close()

    assert {problem.session_id for problem in report.problems} <= {"s-2"}
    assert place == "session" or not report.complete
    for session_id in ("s-1", "s-3"):
        assert await target.get_message_count(session_id, AGENT) == COUNT


async def test_keys_of_a_bucket_are_listed_once_page_by_page(
    sessions: Sessions, target: AsyncMongoDBSessionRepository, place_of: Callable[[str], Place]
) -> None:
    place, names = place_of("s3"), [f"s-{n:02}" for n in range(5)]
    place.fill(names)
    source = place.source()
    assert isinstance(source, S3Source)
    listings: list[str] = []

    def small_pages(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = 4
        listings.append(params["Prefix"])

    source._client.meta.events.register("before-parameter-build.s3.ListObjectsV2", small_pages)
    report = await migrate(source, target, dry_run=False)
    await source.close()

    keys = len(names) * len(log_objects("s"))
    assert (report.migrated, report.messages, report.complete) == (5, 5 * COUNT, True)
    assert listings == ["chats/session_"] * math.ceil(keys / 4)


async def test_a_session_with_a_folder_that_cannot_be_read_is_not_taken_and_the_others_are(
    sessions: Sessions, target: AsyncMongoDBSessionRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(str(tmp_path), ["a", "b", "c"])
    closed = tmp_path / "session_b" / "agents" / f"agent_{AGENT}" / "messages"
    listdir = os.listdir

    def refuse(path: Any) -> list[str]:
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)  # Permissions do not bind root, as whom containers run tests.
    report = await migrate(FileSource(str(tmp_path)), target, dry_run=False)

    assert (report.migrated, report.failed) == (2, 1)
    assert [(p.session_id, p.reason) for p in report.problems] == [("b", "the folder messages: PermissionError")]
    assert await target.read_session("b") is None


async def test_other_objects_in_a_folder_of_sessions_are_passed_over(
    sessions: Sessions, target: AsyncMongoDBSessionRepository, tmp_path: Path
) -> None:
    write_files(str(tmp_path), ["s"])
    (tmp_path / "session_file").write_text("")
    (tmp_path / "notes").mkdir()
    folder = tmp_path / "session_s"
    (folder / "agents" / "notes").mkdir()
    (folder / "agents" / "agent_file").write_text("")
    (folder / "multi_agents").mkdir()
    (folder / "multi_agents" / "notes").mkdir()
    (folder / "agents" / f"agent_{AGENT}" / "messages" / "message_x.json").write_text("")

    report = await migrate(FileSource(str(tmp_path)), target, dry_run=False)

    assert (report.migrated, report.messages) == (1, COUNT)
    assert [(p.agent_id, p.reason) for p in report.problems] == [("file", "agent.json: NotADirectoryError")]


async def test_a_removed_count_is_right_where_messages_before_it_are_missing(
    sessions: Sessions, target: AsyncMongoDBSessionRepository, tmp_path: Path
) -> None:
    write_files(str(tmp_path), ["s"])
    agent = tmp_path / "session_s" / "agents" / f"agent_{AGENT}"
    record = json.loads((agent / "agent.json").read_text())
    record["conversation_manager_state"]["removed_message_count"] = 2
    (agent / "agent.json").write_text(json.dumps(record))
    (agent / "messages" / "message_0.json").write_text("")

    await migrate(FileSource(str(tmp_path)), target, dry_run=False)

    async with sessions.manager("s") as manager:
        assert texts(make_agent(manager, agent_id=AGENT).messages) == ["s says 2", "s says 3"]


async def test_a_session_that_changed_in_the_source_since_is_reported(
    sessions: Sessions, target: AsyncMongoDBSessionRepository, tmp_path: Path
) -> None:
    write_files(str(tmp_path), ["s"])
    source = FileSource(str(tmp_path))
    await migrate(source, target, dry_run=False)
    folder = tmp_path / "session_s" / "agents" / f"agent_{AGENT}" / "messages"
    (folder / "message_4.json").write_text((folder / "message_2.json").read_text())

    report = await migrate(source, target, dry_run=False)

    assert (report.migrated, report.present, report.failed) == (0, 0, 1)
    assert "changed in the source since" in report.problems[0].reason
    assert await target.get_message_count("s", AGENT) == 4


async def test_a_session_that_reads_back_otherwise_is_removed_again(
    sessions: Sessions,
    target: AsyncMongoDBSessionRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_files(str(tmp_path), ["s"])
    read = AsyncMongoDBSessionRepository.list_messages

    async def one_less(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (await read(self, *args, **kwargs))[:-1]

    monkeypatch.setattr(AsyncMongoDBSessionRepository, "list_messages", one_less)
    report = await migrate(FileSource(str(tmp_path)), target, dry_run=False)

    assert (report.migrated, report.failed) == (0, 1)
    assert "reads back otherwise" in report.problems[0].reason
    assert sessions.raw.count_documents({}) == 0


async def test_source_and_target_must_be_two(sessions: Sessions, target: AsyncMongoDBSessionRepository) -> None:
    client = target.collection.database.client
    source = OlderDocumentSource(None, sessions.database_name, COLLECTION, client)
    async with AsyncMongoDBSessionRepository(None, sessions.database_name, COLLECTION, client) as same:
        with pytest.raises(ValueError, match="another collection than the source"):
            await migrate(source, same)


async def test_a_migration_works_on_the_mock() -> None:
    async with mock("migration") as driver:
        await check_over(driver)


async def check_over(driver: Driver) -> None:
    repository = driver.repository()
    collection = repository.collection.database["peer"]
    await collection.insert_many(message_documents("s-1"))
    source = MessageDocumentSource(None, driver.database, "peer", repository.collection.database.client)

    report = await migrate(source, repository, dry_run=False)

    assert report.complete, report.problems
    assert await repository.get_message_count("s-1", AGENT) == COUNT


def test_a_script_migrates_without_an_event_loop(sessions: Sessions, tmp_path: Path) -> None:
    write_files(str(tmp_path), ["s"])

    with MongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION) as repository:
        report = migrate_sessions(FileSource(str(tmp_path)), repository, dry_run=False)
        assert repository.get_message_count("s", AGENT) == 4

    assert report.complete


def run_until_killed(kind: str, place: Place, sessions: Sessions, kill_after: int | None) -> list[str]:
    arguments = [kind, place.address, sessions.uri, sessions.database_name]
    command = [sys.executable, "-m", "tests.support.migration_sources", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if kill_after is not None and line.strip().isdecimal() and int(line) >= kill_after:
                process.kill()
                break
    return lines


def killed_and_resumed_twice(kind: str, place: Place, sessions: Sessions, count: int) -> None:
    names = [f"s-{n:05}" for n in range(count)]
    place.fill(names)
    before = place.digest()
    for part in (3, 2):
        run_until_killed(kind, place, sessions, count // part)
        assert sessions.raw.count_documents({}) < count
    last = run_until_killed(kind, place, sessions, None)[-1]

    _, migrated, present, failed, _, problems = last.split()
    assert (failed, problems) == ("0", "0")
    assert int(migrated) + int(present) == count
    assert int(present) >= count // 2
    assert place.digest() == before
    database = sessions.raw.database
    found = 0
    for document in database[COLLECTION].find({}).sort("_id"):
        assert document["_id"] == names[found]
        messages = document["agents"][AGENT]["messages"]
        assert texts(messages) == expected_texts(document["_id"])
        assert [message["message_id"] for message in messages] == list(range(COUNT))
        assert document["migrated_from"]["verified"]
        found += 1
    assert found == count


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["file", "messages"])
def test_a_migration_that_is_killed_twice_takes_each_session_once(
    kind: str, sessions: Sessions, place_of: Callable[[str], Place]
) -> None:
    killed_and_resumed_twice(kind, place_of(kind), sessions, 60)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # The simulated S3 is asked 170,000 times, at 3 ms each on an idle machine.
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_sessions_are_taken_once(kind: str, sessions: Sessions, place_of: Callable[[str], Place]) -> None:
    killed_and_resumed_twice(kind, place_of(kind), sessions, 10_000)


def test_a_bucket_without_boto3_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(
        ImportError, match=r"needs boto3, which is not installed; install it with: pip install .*\[aws\]"
    ):
        S3Source("bucket")
    S3Source("bucket", client=object())
