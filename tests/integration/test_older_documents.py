"""Documents that older tools wrote resume, become today's with the first write, and lose nothing."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo import MongoClient
from strands.agent.conversation_manager import SlidingWindowConversationManager, SummarizingConversationManager
from strands.types.session import SessionAgent, SessionMessage

from mongodb_session_manager import AgentExistsError, AsyncMongoDBSessionRepository, CorruptMessageError
from tests.fixtures.sessions import (
    COLLECTION,
    SESSION_ID,
    Document,
    Sessions,
)
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.invariants import check_stored, check_whole
from tests.support.models import ScriptedModel, texts
from tests.support.resume import check_resumes_as, check_same_messages, resume

MAY_1 = datetime(2024, 5, 1, 10, 0, 0, 123000, tzinfo=UTC)
MAY_2 = datetime(2024, 5, 2, 10, 0, 0, tzinfo=UTC)
PNG = b"\x89PNG\x00\xff"


def nested(message_id: int, role: str, text: str, **more: Any) -> Document:
    """Return a message as older tools nest it."""
    return {
        "message": {"role": role, "content": [{"text": text}]},
        "message_id": message_id,
        "redact_message": None,
        "created_at": "2024-05-01T10:00:00.123456+00:00",
        "updated_at": "2024-05-01T10:00:00.123456+00:00",
        **more,
    }


def flat(message_id: int, role: str, text: str, **more: Any) -> Document:
    return {"message_id": message_id, "role": role, "content": [{"text": text}], "created_at": MAY_1, **more}


def an_agent(*messages: Any, agent_id: str = AGENT_ID, **more: Any) -> Document:
    return {
        "agent_data": {
            "agent_id": agent_id,
            "state": {"mood": "good"},
            "conversation_manager_state": {},
            "created_at": "2024-05-01T10:00:00+00:00",
            "updated_at": "2024-05-01T10:00:00+00:00",
        },
        "messages": list(messages),
        "created_at": "2024-05-01T10:00:00+00:00",
        "updated_at": "2024-05-01T10:00:00Z",
        **more,
    }


def a_session(agents: Any, **more: Any) -> Document:
    return {
        "_id": SESSION_ID,
        "session_id": SESSION_ID,
        "session_type": "default",
        "created_at": "2024-05-01T10:00:00.123456",
        "updated_at": "2024-05-02T10:00:00+00:00",
        "agents": agents,
        **more,
    }


TALK = [nested(0, "user", "Hi."), nested(1, "assistant", "Hello!")]


class Older:
    """Stores older documents, and checks what becomes of them."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.before: Document = {}

    def store(self, document: Document) -> None:
        self.sessions.raw.insert_one(copy.deepcopy(document))
        self.before = document

    async def write(self, agent_id: str = AGENT_ID, **agent_kwargs: Any) -> Document:
        """Resume an agent, run a turn, and return the document, which is today's now."""
        async with self.sessions.manager() as manager:
            live = make_agent(manager, "Welcome back.", agent_id=agent_id, **agent_kwargs)
            resumed_with = copy.deepcopy(live.messages)
            await streamed(live, "I am back.")
            check_same_messages(resumed_with, live.messages[: len(resumed_with)], synthetic=range(len(resumed_with)))
            await check_resumes_as(self.sessions, live)
        return self.sessions.raw.find_one({"_id": SESSION_ID}) or {}


@pytest.fixture
def older(sessions: Sessions) -> Older:
    return Older(sessions)


@pytest.fixture
async def repository(sessions: Sessions) -> Any:
    repository = AsyncMongoDBSessionRepository(
        sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options()
    )
    yield repository
    await repository.close()


MESSAGE_FORMS: dict[str, tuple[Document, list[Any]]] = {
    "nested": (nested(0, "user", "Hi."), [{"text": "Hi."}]),
    "nested, plain content": ({"message": {"role": "user", "content": "Hi."}, "message_id": 0}, [{"text": "Hi."}]),
    "flat, plain content": ({"message_id": 0, "role": "user", "content": "Hi."}, [{"text": "Hi."}]),
    "flat, dates as ISO": (flat(0, "user", "Hi.", created_at="2024-05-01T10:00:00.123Z"), [{"text": "Hi."}]),
    "nothing but role and content": ({"role": "user", "content": [{"text": "Hi."}]}, [{"text": "Hi."}]),
    "bytes as markers, nested": (
        {
            "message_id": 0,
            "message": {
                "role": "user",
                "content": [
                    {
                        "image": {
                            "format": "png",
                            "source": {"bytes": {"__bytes_encoded__": True, "data": base64.b64encode(PNG).decode()}},
                        }
                    }
                ],
            },
        },
        [{"image": {"format": "png", "source": {"bytes": PNG}}}],
    ),
    "bytes as markers, flat": (
        {
            "message_id": 0,
            "role": "user",
            "content": [{"bytes": {"__bytes_encoded__": True, "data": base64.b64encode(PNG).decode()}}],
        },
        [{"bytes": PNG}],
    ),
    "redacted": (
        nested(0, "user", "secret", redact_message={"role": "user", "content": [{"text": "[redacted]"}]}),
        [{"text": "[redacted]"}],
    ),
    "redacted, as plain text": (nested(0, "user", "secret", redact_message="[redacted]"), [{"text": "[redacted]"}]),
    "empty content": (nested(0, "user", "") | {"message": {"role": "user", "content": []}}, []),
}


@pytest.mark.parametrize(("message", "content"), [pytest.param(*v, id=name) for name, v in MESSAGE_FORMS.items()])
async def test_every_form_of_message_resumes_and_is_read(
    older: Older, repository: AsyncMongoDBSessionRepository, message: Document, content: list[Any]
) -> None:
    older.store(a_session({AGENT_ID: an_agent(message, flat(1, "assistant", "Hello!"))}))

    before = await resume(older.sessions)
    read = await repository.read_message(SESSION_ID, AGENT_ID, 0)
    listed = await repository.list_messages(SESSION_ID, AGENT_ID)
    untouched = (await repository.list_sessions())["sessions"][0]["title"]
    assert untouched == ("".join(block.get("text", "") for block in content) or None)
    pipeline = await repository.messages_pipeline(SESSION_ID)
    piped = [(one["role"], one["content"]) for one in older.sessions.raw.aggregate(pipeline)]
    if "__bytes_encoded__" not in str(message):
        assert piped == [("user", content), ("assistant", [{"text": "Hello!"}])]
    assert before.messages == [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"text": "Hello!"}]},
    ]
    assert older.sessions.raw.find_one({}) == a_session({AGENT_ID: an_agent(message, flat(1, "assistant", "Hello!"))})
    document = await older.write(model=ScriptedModel("Welcome back.", strict=False))

    check_whole(document)
    assert read is not None
    assert listed[0] == read
    assert read.to_message()["content"] == content
    again = await repository.read_message(SESSION_ID, AGENT_ID, 0)
    assert again is not None
    assert again.to_message()["content"] == content
    stored = document["agents"][AGENT_ID]["messages"]
    assert "message" not in stored[0]
    assert isinstance(stored[0]["created_at"], datetime)
    assert document.get("title") == (untouched or "I am back.")
    assert [m["message_id"] for m in stored] == [0, 1, 2, 3]
    rows = list(older.sessions.raw.aggregate(await repository.messages_pipeline(SESSION_ID)))
    assert [(row["message_id"], row["role"]) for row in rows] == [(m["message_id"], m["role"]) for m in stored]
    assert rows[0]["content"] == content
    assert "message" not in rows[0]


async def test_the_pipeline_leaves_out_what_is_no_message(
    older: Older, repository: AsyncMongoDBSessionRepository
) -> None:
    older.store(a_session({AGENT_ID: an_agent(*TALK, "text", 5, None, [nested(4, "user", "inside of a list")])}))

    rows = list(older.sessions.raw.aggregate(await repository.messages_pipeline(SESSION_ID)))

    assert len(rows) == len(TALK)


async def test_the_document_has_todays_form_after_the_first_write(older: Older) -> None:
    older.store(a_session({AGENT_ID: an_agent(*TALK)}))

    document = await older.write()

    check_whole(document)
    assert document["session_type"] == "default"
    assert document["schema_version"] == 2
    assert document["created_at"] == MAY_1
    assert document["updated_at"] > MAY_2
    assert (document["metadata"], document["feedbacks"], document["guardrail_events"]) == ({}, [], [])
    assert len(document["session_viewer_password"]) == 32
    agent = document["agents"][AGENT_ID]
    assert agent["next_message_id"] == 4
    assert agent["agent_data"]["state"] == {"mood": "good"}
    assert agent["agent_data"]["conversation_manager_state"]["__name__"] == "SlidingWindowConversationManager"
    assert agent["agent_data"]["_internal_state"]["interrupt_state"]["activated"] is False
    assert agent["created_at"] == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert [m["created_at"] for m in agent["messages"][:2]] == [MAY_1, MAY_1]
    assert all(m["tracking_id"] for m in agent["messages"])


@pytest.mark.parametrize(
    "write",
    [
        lambda manager: manager.update_metadata({"new": 1}),
        lambda manager: manager.add_feedback({"rating": "up"}),
        lambda manager: manager.update_agent_config(AGENT_ID, model="m-1"),
        lambda manager: manager.repair_session(dry_run=False),
    ],
)
async def test_any_write_keeps_everything(older: Older, write: Any) -> None:
    older.store(a_session({AGENT_ID: an_agent(*TALK), "sales.eu": an_agent(*TALK, agent_id="sales.eu")}))

    async with older.sessions.manager() as manager:
        await write(manager)

    for agent_id in (AGENT_ID, "sales.eu"):
        assert texts((await resume(older.sessions, agent_id=agent_id)).messages) == ["Hi.", "Hello!"]


@pytest.mark.parametrize("agent_id", [AGENT_ID, "sales.eu", "100%"])
async def test_an_agent_is_deleted(older: Older, repository: AsyncMongoDBSessionRepository, agent_id: str) -> None:
    older.store(a_session({agent_id: an_agent(*TALK, agent_id=agent_id), "other": an_agent(*TALK, agent_id="other")}))

    assert await repository.delete_agent(SESSION_ID, agent_id)
    assert not await repository.delete_agent(SESSION_ID, agent_id)

    assert [config["agent_id"] for config in await repository.list_agents(SESSION_ID)] == ["other"]
    [listed] = (await repository.list_sessions())["sessions"]
    assert (listed["agents_count"], listed["messages_count"]) == (1, 2)


@pytest.mark.parametrize("agent_id", [AGENT_ID, "sales.eu", "100%", "sales.100%.eu"])
async def test_sessions_are_found_by_their_agents(
    older: Older, repository: AsyncMongoDBSessionRepository, agent_id: str
) -> None:
    agents: Any = an_agent(*TALK, agent_id=agent_id)
    for part in reversed(agent_id.split(".")):
        agents = {part: agents}
    older.store(a_session(agents))

    async def found(name: str) -> int:
        listed = await repository.list_sessions(agent_id=name)
        assert len(listed["sessions"]) == await repository.count_sessions(agent_id=name)
        return len(listed["sessions"])

    for _ in range(2):
        assert await found(agent_id) == 1
        assert await found(f"{agent_id}.messages") == await found(".") == await found("$x") == await found("\x00") == 0
        await repository.rename_session(SESSION_ID, "A talk")  # brings it into today's form


async def test_a_live_agent_whose_stored_one_is_deleted_goes_on_as_a_new_one(
    older: Older, repository: AsyncMongoDBSessionRepository
) -> None:
    older.store(a_session({AGENT_ID: an_agent(*TALK)}))

    async with older.sessions.manager() as manager:
        live = make_agent(manager, "Welcome back.")
        await repository.delete_agent(SESSION_ID, AGENT_ID)
        await streamed(live, "I am back.")

    assert texts((await resume(older.sessions)).messages) == ["I am back.", "Welcome back."]


@pytest.mark.parametrize("is_older", [True, False])
async def test_copies_of_messages_without_a_tracking_id_are_the_same_messages(
    older: Older, repository: AsyncMongoDBSessionRepository, is_older: bool
) -> None:
    """Of older tools, and of code that appends through the repository."""
    if is_older:
        older.store(a_session({AGENT_ID: an_agent(*TALK)}))
    else:
        async with older.sessions.manager() as manager:
            make_agent(manager)
        said: Any = [("user", "Hi."), ("assistant", "Hello!")]
        for number, (role, text) in enumerate(said):
            message = SessionMessage({"role": role, "content": [{"text": text}]}, number)
            await repository.create_message(SESSION_ID, AGENT_ID, message)

    async with older.sessions.manager() as manager:
        live = make_agent(manager, "Welcome back.")
        live.load_snapshot(live.take_snapshot(preset="session"))
        await streamed(live, "I am back.")
        live.messages = copy.deepcopy(live.messages)
        manager.sync_agent(live)

    assert older.sessions.texts() == ["Hi.", "Hello!", "I am back.", "Welcome back."]
    check_same_messages(live.messages, (await resume(older.sessions)).messages, synthetic=range(2))


async def test_a_redaction_leaves_no_original(older: Older) -> None:
    older.store(a_session({AGENT_ID: an_agent(*TALK)}))

    async with older.sessions.manager() as manager:
        live = make_agent(manager)
        manager.redact_latest_message({"role": "assistant", "content": [{"text": "[redacted]"}]}, live)

    assert texts((await resume(older.sessions)).messages) == ["Hi.", "[redacted]"]
    assert "Hello!" not in str(older.sessions.document())


async def test_a_document_with_nothing_but_its_id_resumes(older: Older) -> None:
    older.store({"_id": SESSION_ID})

    document = await older.write()

    check_whole(document)
    assert document["agents"][AGENT_ID]["next_message_id"] == 2


@pytest.mark.parametrize("agents", [None, {}, [], "none", {AGENT_ID: {}}, {AGENT_ID: {"agent_data": None}}])
async def test_odd_agents_do_not_keep_the_session_from_going_on(older: Older, agents: Any) -> None:
    older.store(a_session(agents))

    document = await older.write()

    check_whole(document)
    assert [m["content"] for m in document["agents"][AGENT_ID]["messages"]] == [
        [{"text": "I am back."}],
        [{"text": "Welcome back."}],
    ]
    if agents in ([], "none"):
        assert document["legacy"] == {"agents": {"agents": agents}}


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([0, 2, 7], [0, 2, 7]),
        ([0, 1, 1], [0, 1, 2]),
        ([5, 5, 5], [5, 6, 7]),
        ([2, 1, 0], [2, 3, 4]),
        ([None, None, None], [0, 1, 2]),
    ],
)
async def test_message_ids_become_unique_and_go_on_from_the_last(
    older: Older, ids: list[int | None], expected: list[int]
) -> None:
    said = [("user", "one"), ("assistant", "two"), ("user", "three")]
    messages = [flat(0, role, text) | {"message_id": i} for i, (role, text) in zip(ids, said, strict=True)]
    for message in messages:
        if message["message_id"] is None:
            del message["message_id"]
    older.store(a_session({AGENT_ID: an_agent(*messages)}))

    document = await older.write()

    agent = document["agents"][AGENT_ID]
    assert [m["message_id"] for m in agent["messages"]] == [*expected, expected[-1] + 1, expected[-1] + 2]
    assert agent["next_message_id"] == expected[-1] + 3


async def test_a_counter_that_lags_behind_is_not_believed(older: Older) -> None:
    older.store(a_session({AGENT_ID: an_agent(*TALK, next_message_id=1)}))

    document = await older.write()

    check_whole(document)


@pytest.mark.parametrize(
    ("agents", "agent_id"),
    [
        ({"100%": an_agent(*TALK, agent_id="100%")}, "100%"),
        ({"a%2Eb": an_agent(*TALK, agent_id="a%2Eb")}, "a%2Eb"),
        ({"sales": {"eu": an_agent(*TALK, agent_id="sales.eu")}}, "sales.eu"),
        ({"sales": {"eu": {"west": an_agent(*TALK, agent_id="sales.eu.west")}}}, "sales.eu.west"),
        ({"sales": an_agent(agent_id="sales") | {"eu": an_agent(*TALK, agent_id="sales.eu")}}, "sales.eu"),
        ({"plain": {"messages": TALK}}, "plain"),
        ({"dotted": {"part": {"messages": TALK}}}, "dotted.part"),
        ({"key": an_agent(*TALK, agent_id="another name")}, "another name"),
    ],
)
@pytest.mark.parametrize("narrowed", [False, True])
async def test_agents_are_found_wherever_older_tools_put_them(
    older: Older, repository: AsyncMongoDBSessionRepository, agents: Document, agent_id: str, narrowed: bool
) -> None:
    older.store(a_session(agents))
    everyone = {config["agent_id"] for config in await repository.list_agents(SESSION_ID)}
    assert agent_id in everyone
    assert await repository.get_message_count(SESSION_ID, agent_id) == 2
    assert (await repository.get_agent_config(SESSION_ID, agent_id) or {})["agent_id"] == agent_id

    async with older.sessions.manager() as manager:
        await manager.open([agent_id] if narrowed else None)
        live = make_agent(manager, "Welcome back.", agent_id=agent_id)
        assert texts(live.messages) == ["Hi.", "Hello!"]
        await streamed(live, "I am back.")
        await check_resumes_as(older.sessions, live)

    assert {config["agent_id"] for config in await repository.list_agents(SESSION_ID)} == everyone
    document = older.sessions.raw.find_one({}) or {}
    assert document["summary"]["agents"] == len(document["agents"]) == len(everyone)
    assert await repository.get_message_count(SESSION_ID, agent_id) == 4


async def test_a_copy_that_somebody_keeps_inside_an_agent_stays_there(older: Older) -> None:
    backup = an_agent(*TALK)
    older.store(a_session({AGENT_ID: an_agent(*TALK, backup=backup)}))

    document = await older.write()

    assert list(document["agents"]) == [AGENT_ID]
    assert document["agents"][AGENT_ID]["backup"] == backup


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the path and value of each leaf."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list) or not value:
        yield at, value
    for key, item in items:
        yield from paths(item, (*at, key))


async def test_unknown_fields_stay_where_they_are(older: Older) -> None:
    def extra(where: str) -> Document:
        return {f"x_{where}": {"deep": [1, {"a": None, "when": MAY_1}], "text": where, "": "empty"}, "tags": [where]}

    message = nested(0, "user", "Hi.", **extra("message"))
    agent = an_agent(message, flat(1, "assistant", "Hello!", **extra("flat")), **extra("agent"))
    agent["agent_data"] |= {**extra("agent_data"), "model": "m-0", "system_prompt": "Be kind.", "name": "Ada"}
    older.store(
        a_session(
            {AGENT_ID: agent},
            **extra("session"),
            application_name="app",
            session_viewer_password="secret" * 5,
            metadata={"a": {"b": 1}, "when": MAY_1, **extra("metadata")},
            feedbacks=[{"rating": "up", "comment": "good", "created_at": MAY_1, **extra("feedback")}],
            guardrail_events=[{"message_id": 0, "agent_id": AGENT_ID, "timestamp": MAY_1, **extra("event")}],
            multi_agents={"graph": {"type": "graph", **extra("graph")}},
        )
    )

    async with older.sessions.manager() as manager:
        await manager.update_metadata({"new": 1})
    document = older.sessions.raw.find_one({}) or {}

    kept = dict(paths(document))
    # What has a form of its own today; the values are checked elsewhere.
    rewritten = ("created_at", "updated_at", "session_type", "message", "redact_message", "conversation_manager_state")
    lost = {
        path: value
        for path, value in paths(older.before)
        if not any(name in path for name in rewritten if not any(str(p).startswith("x_") for p in path))
        and kept.get(path, "missing") != value
    }
    # Graphs and swarms are encoded as a whole, since they are read as a whole.
    assert {path for path in lost if path[0] != "multi_agents"} == set()
    assert document["feedbacks"][0]["created_at"] == MAY_1


async def test_fields_whose_names_are_taken_today_are_set_aside(older: Older) -> None:
    message = flat(0, "user", "Hi.", extra="note", window_content="old", legacy=1)
    nested_message = nested(1, "assistant", "Hello!") | {"metadata": {"lang": "en"}, "tracking_id": "t", "role": "r"}
    agent = an_agent(message, nested_message, usage="lots", window="open", redactions="none")
    older.store(a_session({AGENT_ID: agent, "count": 3}, summary="A talk.", applied=True, lease="mine", incarnation=7))

    document = await older.write()

    check_whole(document)
    assert document["legacy"] == {
        "summary": "A talk.",
        "applied": True,
        "lease": "mine",
        "incarnation": 7,
        "agents": {"count": 3},
    }
    assert "lease" not in document
    stored = document["agents"][AGENT_ID]
    assert stored["legacy"] == {"usage": "lots", "window": "open", "redactions": "none"}
    assert stored["messages"][0]["legacy"] == {"extra": "note", "window_content": "old", "legacy": 1}
    assert stored["messages"][1]["legacy"] == {"metadata": {"lang": "en"}, "tracking_id": "t", "role": "r"}
    assert "metadata" not in stored["messages"][1]


async def test_what_belongs_to_a_nested_message_stays_with_it(older: Older) -> None:
    message = nested(0, "user", "Hi.")
    message["message"] |= {"tracking_id": "t-1", "metadata": {"usage": {"inputTokens": 1}}, "created_at": "inner"}
    older.store(a_session({AGENT_ID: an_agent(message)}))
    expected = {
        "role": "user",
        "content": [{"text": "Hi."}],
        "tracking_id": "t-1",
        "metadata": {"usage": {"inputTokens": 1}},
        "created_at": "inner",
    }

    assert (await resume(older.sessions)).messages[0] == expected
    document = await older.write()

    assert (await resume(older.sessions)).messages[0] == expected
    assert document["agents"][AGENT_ID]["messages"][0]["created_at"] == MAY_1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2024-05-01T10:00:00.123456+00:00", MAY_1),
        ("2024-05-01T10:00:00.123Z", MAY_1),
        ("2024-05-01T12:00:00.123456+02:00", MAY_1),
        ("2024-05-01 10:00:00.123456", MAY_1),
        (MAY_1, MAY_1),
    ],
)
async def test_dates_become_dates(older: Older, given: Any, expected: datetime) -> None:
    older.store(
        a_session(
            {AGENT_ID: an_agent(nested(0, "user", "Hi.", created_at=given), created_at=given)},
            created_at=given,
            feedbacks=[{"rating": "up", "created_at": given, "timestamp": "2024-05-01"}],
            guardrail_events=[{"message_id": 0, "agent_id": AGENT_ID, "timestamp": given}],
        )
    )

    document = await older.write()

    agent = document["agents"][AGENT_ID]
    assert document["created_at"] == agent["created_at"] == agent["messages"][0]["created_at"] == expected
    assert document["feedbacks"] == [{"rating": "up", "created_at": expected, "timestamp": "2024-05-01"}]
    assert document["guardrail_events"][0]["timestamp"] == expected


async def test_what_is_no_date_is_kept_beside_the_date(older: Older) -> None:
    message = nested(0, "user", "Hi.", created_at="yesterday", updated_at="0001-01-01T00:00:00+14:00")
    older.store(a_session({AGENT_ID: an_agent(message)}, created_at="long ago"))

    document = await older.write()

    stored = document["agents"][AGENT_ID]["messages"][0]
    assert stored["legacy"] == {"created_at": "yesterday", "updated_at": "0001-01-01T00:00:00+14:00"}
    assert stored["created_at"] == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert document["legacy"] == {"created_at": "long ago"}


async def test_state_and_bytes_markers_resume(older: Older) -> None:
    marker = {"__bytes_encoded__": True, "data": base64.b64encode(PNG).decode()}
    agent = an_agent(*TALK)
    agent["agent_data"] |= {
        "state": {"a.b": {"$x": 1}, "list": [1, {"": None}]},
        "_internal_state": {"model_state": {"blob": marker}},
        "conversation_manager_state": {
            "__name__": "SummarizingConversationManager",
            "removed_message_count": 1,
            "summary_message": {"role": "user", "content": [{"image": {"source": {"bytes": marker}}}]},
        },
    }
    older.store(a_session({AGENT_ID: agent}))

    for _ in range(2):
        resumed = await resume(older.sessions, conversation_manager=SummarizingConversationManager())
        assert resumed.messages[0]["content"][0]["image"]["source"]["bytes"] == PNG
        assert resumed.state.get() == {"a.b": {"$x": 1}, "list": [1, {"": None}]}
        assert resumed.take_snapshot(preset="session").data["model_state"] == {"blob": PNG}
        async with older.sessions.manager() as manager:
            await manager.update_metadata({"seen": True})


async def test_the_count_of_removed_messages_serves_a_document_without_a_window(older: Older) -> None:
    agent = an_agent(*TALK, nested(2, "user", "More."), nested(3, "assistant", "Yes."))
    agent["agent_data"]["conversation_manager_state"] = {
        "__name__": "SlidingWindowConversationManager",
        "removed_message_count": 2,
    }
    older.store(a_session({AGENT_ID: agent}))

    assert texts((await resume(older.sessions)).messages) == ["More.", "Yes."]
    async with older.sessions.manager() as manager:
        window = SlidingWindowConversationManager(window_size=2)
        live = make_agent(manager, "Welcome back.", conversation_manager=window)
        await streamed(live, "I am back.")
        assert window.removed_message_count == 4
        await check_resumes_as(
            older.sessions, live, conversation_manager=SlidingWindowConversationManager(window_size=2)
        )

    assert len(older.sessions.messages()) == 6


async def test_flat_metrics_are_nested_and_counted(older: Older, repository: AsyncMongoDBSessionRepository) -> None:
    older.store(
        a_session(
            {
                AGENT_ID: an_agent(
                    *TALK,
                    nested(2, "assistant", "a", latency_ms=100, input_tokens=10, output_tokens=5),
                    nested(3, "assistant", "b", latency_ms=200, input_tokens=20, output_tokens=None),
                    nested(4, "assistant", "c", latency_ms=1, event_loop_metrics={"accumulated_usage": {}}),
                )
            }
        )
    )

    before = await repository.get_metrics_summary(SESSION_ID)
    async with older.sessions.manager() as manager:
        await manager.update_metadata({"seen": True})
        after = await manager.get_metrics_summary(AGENT_ID)

    messages = older.sessions.messages()
    assert before == after
    assert before["latency_ms"] == 300
    assert before["tokens"] == {"input": 30, "output": 5, "total": 15, "cache_read": None, "cache_write": None}
    assert messages[2]["event_loop_metrics"] == {
        "accumulated_metrics": {"latencyMs": 100},
        "accumulated_usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15},
    }
    assert messages[3]["event_loop_metrics"]["accumulated_usage"] == {"inputTokens": 20}
    assert messages[4]["latency_ms"] == 1
    assert older.sessions.document()["summary"]["usage"]["inputTokens"] == 30


async def test_accumulated_metrics_are_counted_per_run(older: Older, repository: AsyncMongoDBSessionRepository) -> None:
    def metrics(tokens: int, cycles: int, tool_calls: int) -> Document:
        return {
            "accumulated_metrics": {"latencyMs": 10 * cycles, "timeToFirstByteMs": 5},
            "accumulated_usage": {"inputTokens": tokens, "outputTokens": 1, "totalTokens": tokens + 1},
            "cycle_metrics": {"cycle_count": cycles, "total_duration": 0.5, "average_cycle_time": 0.5},
            "tool_usage": {"100%": {"call_count": tool_calls, "success_count": tool_calls, "total_time": 0.5}},
        }

    runs = [metrics(10, 1, 1), metrics(30, 3, 2), metrics(5, 1, 0), metrics(6, 2, 1)]
    messages = [nested(i, "assistant", str(i), event_loop_metrics=run) for i, run in enumerate(runs)]
    older.store(a_session({AGENT_ID: an_agent(*messages)}))

    before = await repository.get_metrics_summary(SESSION_ID)
    async with older.sessions.manager() as manager:
        await manager.add_feedback({"rating": "up"})
        after = await manager.get_metrics_summary()

    assert before == after
    assert before["tokens"]["input"] == 36
    assert before["model_calls"] == 5
    assert before["latency_ms"] == 50
    assert before["tool_calls"]["100%"]["call_count"] == 3
    assert [m["event_loop_metrics"] for m in older.sessions.messages()] == runs


CORRUPT: dict[str, Any] = {
    "text": "not a message",
    "null": None,
    "no role": {"message_id": 1, "content": [{"text": "?"}]},
    "no content": {"message_id": 1, "role": "assistant"},
    "content is a number": {"message_id": 1, "role": "assistant", "content": 7},
    "content holds text": {"message_id": 1, "role": "assistant", "content": ["?"]},
    "number is text": {"message_id": "one", "role": "assistant", "content": "?"},
    "nested text": {"message_id": 1, "message": "?"},
    "redaction without content": nested(1, "assistant", "?", redact_message={"role": "assistant"}),
}


@pytest.mark.parametrize("corrupt", [pytest.param(value, id=name) for name, value in CORRUPT.items()])
async def test_a_message_that_cannot_be_read_is_reported_and_kept(
    older: Older, repository: AsyncMongoDBSessionRepository, corrupt: Any
) -> None:
    older.store(a_session({AGENT_ID: an_agent(TALK[0], corrupt, nested(2, "assistant", "Hello!"))}))

    with pytest.raises(CorruptMessageError, match=f"agent '{AGENT_ID}'") as caught:
        await resume(older.sessions)
    assert caught.value.message_id in (1, "one")
    with pytest.raises(CorruptMessageError):
        await repository.list_messages(SESSION_ID, AGENT_ID)
    first = await repository.read_message(SESSION_ID, AGENT_ID, 0)
    assert first is not None
    assert texts([first.message]) == ["Hi."]
    assert len(await repository.list_messages(SESSION_ID, AGENT_ID, limit=1)) == 1
    async with older.sessions.manager(skip_corrupt_messages=True) as manager:
        live = make_agent(manager, "Welcome back.")
        assert texts(live.messages) == ["Hi.", "Hello!"]
        await streamed(live, "I am back.")
        await check_resumes_as(older.sessions, live, manager_options={"skip_corrupt_messages": True})

    document = older.sessions.raw.find_one({}) or {}
    stored = document["agents"][AGENT_ID]["messages"]
    assert stored[1] == corrupt
    assert [m["message_id"] for i, m in enumerate(stored) if i != 1] == [0, 2, 3, 4]
    assert await repository.get_message_count(SESSION_ID, AGENT_ID) == 5


async def test_messages_that_are_no_list_are_kept(older: Older) -> None:
    older.store(a_session({AGENT_ID: an_agent() | {"messages": {"0": "Hi."}}}))

    with pytest.raises(CorruptMessageError):
        await resume(older.sessions)
    async with older.sessions.manager(skip_corrupt_messages=True) as manager:
        await streamed(make_agent(manager, "Welcome back."), "I am back.")

    document = older.sessions.raw.find_one({}) or {}
    assert document["agents"][AGENT_ID]["messages"][0] == {"0": "Hi."}


async def test_everything_is_read_before_the_document_is_todays(
    older: Older, repository: AsyncMongoDBSessionRepository
) -> None:
    agent = an_agent(*TALK, nested(2, "user", "More."))
    agent["agent_data"] |= {"model": "m-0", "system_prompt": "Be kind.", "prompt_metadata": {"version": 3}}
    older.store(
        a_session(
            {AGENT_ID: agent, "sales": {"eu": an_agent(TALK[0], agent_id="sales.eu")}},
            metadata={"priority": "high", "deep": {"when": MAY_1}},
            feedbacks=[{"rating": "up", "created_at": "2024-05-01T10:00:00.123Z"}, {"rating": "down"}],
            application_name="app",
        )
    )
    older.sessions.recorder.clear()

    listed = await repository.list_messages(SESSION_ID, AGENT_ID, limit=1, offset=1)
    assert [m.message for m in listed] == [{"role": "assistant", "content": [{"text": "Hello!"}]}]
    assert [m.message_id for m in await repository.list_messages(SESSION_ID, AGENT_ID, offset=1)] == [1, 2]
    assert await repository.list_messages(SESSION_ID, AGENT_ID, limit=0) == []
    assert await repository.list_messages(SESSION_ID, AGENT_ID, offset=9) == []
    read = await repository.read_message(SESSION_ID, AGENT_ID, 2)
    assert isinstance(read, SessionMessage)
    assert read.created_at == "2024-05-01T10:00:00.123000+00:00"
    assert await repository.read_message(SESSION_ID, AGENT_ID, 9) is None
    assert await repository.get_message_count(SESSION_ID, AGENT_ID) == 3
    assert await repository.get_message_count(SESSION_ID, "sales.eu") == 1
    assert await repository.get_message_count(SESSION_ID, "nobody") == 0
    config = {
        "agent_id": AGENT_ID,
        "model": "m-0",
        "system_prompt": "Be kind.",
        "prompt_metadata": {"version": 3},
    }
    assert await repository.get_agent_config(SESSION_ID, AGENT_ID) == config
    assert await repository.get_agent_config(SESSION_ID, "nobody") is None
    assert await repository.list_agents(SESSION_ID) == [
        config,
        {"agent_id": "sales.eu", "model": None, "system_prompt": None, "prompt_metadata": None},
    ]
    assert await repository.get_metadata(SESSION_ID) == {"metadata": {"priority": "high", "deep": {"when": MAY_1}}}
    assert await repository.get_feedbacks(SESSION_ID) == [{"rating": "up", "created_at": MAY_1}, {"rating": "down"}]
    summary = await repository.get_metrics_summary(SESSION_ID, AGENT_ID)
    assert (summary["model_calls"], summary["tool_calls"]) == (None, {})
    assert await repository.get_application_name(SESSION_ID) == "app"
    assert await repository.get_session_viewer_password(SESSION_ID) is None
    session = await repository.read_session(SESSION_ID)
    assert session is not None
    assert session.created_at == "2024-05-01T10:00:00.123000+00:00"
    stored_agent = await repository.read_agent(SESSION_ID, AGENT_ID)
    assert stored_agent is not None
    assert stored_agent.state == {"mood": "good"}

    assert set(older.sessions.recorder.names) <= {"find", "aggregate"}


async def test_what_an_older_tool_adds_meanwhile_is_kept(
    older: Older, mongo_client: MongoClient[Document], repository: AsyncMongoDBSessionRepository
) -> None:
    older.store(a_session({AGENT_ID: an_agent(*TALK)}))

    async with older.sessions.manager() as manager:
        live = make_agent(manager, "Welcome back.")
        older.sessions.raw.update_one(
            {"_id": SESSION_ID},
            {
                "$push": {f"agents.{AGENT_ID}.messages": nested(2, "user", "Meanwhile.")},
                "$set": {"updated_at": "2024-06-01T00:00:00+00:00"},
            },
        )
        await streamed(live, "I am back.")

    assert older.sessions.texts() == ["Hi.", "Hello!", "Meanwhile.", "I am back.", "Welcome back."]
    check_whole(older.sessions.document())


async def test_two_processes_bring_one_document_up_to_date_at_once(older: Older) -> None:
    older.store(a_session({AGENT_ID: an_agent(*TALK)}))

    async with older.sessions.manager() as one, older.sessions.manager() as two:
        first = make_agent(one, "I am the first.")
        second = make_agent(two, "I am the second.")
        await streamed(first, "Who is there?")
        await streamed(second, "And who else?")

    document = older.sessions.document()
    check_whole(document)
    assert texts(document["agents"][AGENT_ID]["messages"]) == [
        *("Hi.", "Hello!"),
        *("Who is there?", "I am the first.", "And who else?", "I am the second."),
    ]


@pytest.mark.parametrize("value", ["r1", {"of": 1}, [1]], ids=["text", "fields", "list"])
async def test_names_that_another_tool_uses_for_something_else_are_set_aside(sessions: Sessions, value: Any) -> None:
    names = (
        "revision",
        "live_bytes",
        "ttl_s",
        "title_of",
        "idempotency_keys",
        "last_lease",
        "feedbacks_sealed",
        "guardrail_events_sealed",
        "children_expire_at",
    )
    sessions.raw.insert_one({"_id": SESSION_ID, "agents": {}, **dict.fromkeys(names, value)})
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Hello!"), "Hi.")
        async with manager.turn(idempotency_key="k"):
            pass
        await manager.add_feedback({"rating": "up"})

    document = sessions.document()
    assert sessions.texts() == ["Hi.", "Hello!"]
    assert {name: document["legacy"][name] for name in names} == dict.fromkeys(names, value)
    assert (document["title"], document["idempotency_keys"]) == ("Hi.", ["k"])


# -- an older tool that still runs


async def with_an_older_agent(sessions: Sessions, *messages: Any, agent_id: str = AGENT_ID) -> None:
    """Let an older tool add an agent to a session of today's form, as it does: by its name."""
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "first", agent_id="another"), "hello")
    sessions.raw.update_one(
        {"_id": SESSION_ID}, {"$set": {f"agents.{agent_id}": an_agent(*messages, agent_id=agent_id)}}
    )


MARKED = {"__bytes_encoded__": True, "data": base64.b64encode(PNG).decode()}
SAID = (nested(0, "user", "old question"), nested(1, "assistant", "old answer"))


async def test_an_agent_that_an_older_tool_adds_meanwhile_resumes_and_goes_on(sessions: Sessions) -> None:
    image = {"image": {"format": "png", "source": {"bytes": MARKED}}}
    third = nested(2, "user", "look")
    third["message"]["content"].append(image)
    await with_an_older_agent(sessions, *SAID, third, nested(3, "assistant", "seen"))

    async with sessions.manager() as manager:
        agent = make_agent(manager, "new answer")
        assert texts(agent.messages) == ["old question", "old answer", "look", "seen"]
        assert agent.state.get("mood") == "good"
        await streamed(agent, "new question")
        live = copy.deepcopy(agent.messages)

    resumed = await resume(sessions)
    check_same_messages(resumed.messages, live)
    assert resumed.messages[2]["content"][1]["image"]["source"]["bytes"] == PNG
    document = check_stored(sessions.raw.database)
    assert document["agents"][AGENT_ID]["next_message_id"] == 6
    assert document["summary"]["agents"] == 2
    assert document["summary"]["messages"] == 8


async def test_an_agent_that_is_added_while_the_session_is_open_is_gone_on_with(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "first", agent_id="another"), "hello")
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {f"agents.{AGENT_ID}": an_agent(*SAID)}})
        await streamed(make_agent(manager, "new answer"), "new question")

    resumed = await resume(sessions)
    assert texts(resumed.messages) == ["old question", "old answer", "new question", "new answer"]
    check_stored(sessions.raw.database)


async def test_an_agent_that_an_older_tool_replaces_is_gone_on_with(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "one", "two")
        await streamed(agent, "1")
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {f"agents.{AGENT_ID}": an_agent(*SAID)}})
        await streamed(agent, "2")

    resumed = await resume(sessions)
    assert texts(resumed.messages)[-2:] == ["2", "two"]
    document = sessions.raw.find_one({"_id": SESSION_ID})
    assert document is not None
    assert [message["message_id"] for message in document["agents"][AGENT_ID]["messages"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("flat_or_nested", [flat, nested])
async def test_the_repository_writes_to_an_agent_that_an_older_tool_added(
    sessions: Sessions, flat_or_nested: Any
) -> None:
    await with_an_older_agent(sessions, flat_or_nested(0, "user", "old"))

    async with AsyncMongoDBSessionRepository(
        sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options()
    ) as repository:
        answer: Any = {"role": "assistant", "content": [{"text": "new"}]}
        await repository.create_message(SESSION_ID, AGENT_ID, SessionMessage(answer, 1))
        listed = await repository.list_messages(SESSION_ID, AGENT_ID)
        assert texts([message.message for message in listed]) == ["old", "new"]
        agent = await repository.read_agent(SESSION_ID, AGENT_ID)
        assert agent is not None
        await repository.update_agent(SESSION_ID, agent)
        check_stored(sessions.raw.database)
        assert await repository.delete_agent(SESSION_ID, AGENT_ID)

    summary = check_stored(sessions.raw.database)["summary"]
    assert (summary["agents"], summary["messages"]) == (1, 2)


async def test_an_agent_that_an_older_tool_added_can_be_deleted_and_created_is_not(sessions: Sessions) -> None:
    await with_an_older_agent(sessions, *SAID)

    async with AsyncMongoDBSessionRepository(
        sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options()
    ) as repository:
        with pytest.raises(AgentExistsError):
            await repository.create_agent(SESSION_ID, SessionAgent(AGENT_ID, {}, {}))
        assert await repository.delete_agent(SESSION_ID, AGENT_ID)
        assert not await repository.delete_agent(SESSION_ID, AGENT_ID)


@pytest.mark.parametrize("ids", [["sales.eu"], ["sales.eu.north"], ["sales", "sales.eu"], ["sales.eu", "sales.us"]])
async def test_agents_with_dots_in_their_ids_that_an_older_tool_adds_are_gone_on_with(
    sessions: Sessions, ids: list[str]
) -> None:
    for agent_id in ids:
        await with_an_older_agent(sessions, nested(0, "user", f"old of {agent_id}"), agent_id=agent_id)

    for agent_id in ids:
        async with sessions.manager() as manager:
            await streamed(make_agent(manager, "new answer", agent_id=agent_id), "new question")

    async with sessions.manager() as manager:
        for agent_id in ids:
            said = texts(make_agent(manager, agent_id=agent_id).messages)
            assert said == [f"old of {agent_id}", "new question", "new answer"]
    async with AsyncMongoDBSessionRepository(
        sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options()
    ) as repository:
        assert {agent["agent_id"] for agent in await repository.list_agents(SESSION_ID)} == {"another", *ids}
        for agent_id in ids:
            assert await repository.delete_agent(SESSION_ID, agent_id)
        assert [agent["agent_id"] for agent in await repository.list_agents(SESSION_ID)] == ["another"]


async def test_an_agent_is_made_where_an_older_tool_put_another_one_below_its_name(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "answer", agent_id="sales")
        older = an_agent(*SAID, agent_id="sales.eu")
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"agents.sales.eu": older}})
        await streamed(agent, "question")

    async with sessions.manager() as manager:
        assert texts(make_agent(manager, agent_id="sales").messages) == ["question", "answer"]
        assert texts(make_agent(manager, agent_id="sales.eu").messages) == ["old question", "old answer"]
