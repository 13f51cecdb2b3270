"""Names and values of any kind: equal after a round trip through a real server, or refused before anything is sent."""

from __future__ import annotations

import inspect
import itertools
import math
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from strands.multiagent.base import MultiAgentBase
from strands.telemetry.metrics import ToolMetrics
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionRepository,
    InvalidNameError,
)
from tests.fixtures.commands import CommandRecorder
from tests.support.agents import make_agent

Document = dict[str, Any]

# Every test body runs once for each example, all on the fixtures of the test: sessions have names of their own.
slow = settings(
    max_examples=settings().max_examples // 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_numbers = itertools.count()

any_text = st.text(st.characters(codec=None))
"""Text with NULs, controls, lone surrogates and all."""

tricky_text = st.lists(
    st.sampled_from(
        [".", "$", "%", "\x00", "__bson__", "a", "%2E", "%u", "é", "\ud800", "/", " ", "agents", "0", "-1"]
    ),
    max_size=6,
).map("".join)

names = st.one_of(tricky_text, any_text)
"""Names that users may choose for agents, graphs and tools: any text."""

numbers = st.one_of(st.integers(), st.integers(-(1 << 200), 1 << 200), st.floats())
plain: st.SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), numbers, names)
json_values: st.SearchStrategy[Any] = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
zones: list[Any] = [
    st.none(),
    st.just(UTC),
    st.integers(-1000, 1000).map(lambda minutes: timezone(timedelta(minutes=minutes))),
]
dates = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.one_of(zones))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        plain,
        st.binary(max_size=20),
        dates,
        st.dates(),
        st.uuids(),
        st.decimals(allow_nan=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(names, inner, max_size=4),
        st.dictionaries(st.integers() | names, inner, max_size=3),
    ),
    max_leaves=12,
)
"""What Strands and tools put into messages and state, as far as it can be stored."""


def same(one: object, other: object) -> bool:
    """Equality that tells types apart and knows that NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one == other and one.utcoffset() == other.utcoffset()
    return one == other


class Store:
    """A collection, what was sent to it, and new sessions in it."""

    def __init__(self, uri: str, database: str, recorder: CommandRecorder) -> None:
        self.recorder = recorder
        self.client: MongoClient[Document] = MongoClient(uri, event_listeners=[recorder])
        self._address: Document = {"client": self.client, "database_name": database, "collection_name": "sessions"}
        self.repository = AsyncMongoDBSessionRepository(**self._address)

    def manager(self, session_id: Any) -> AsyncMongoDBSessionManager:
        return AsyncMongoDBSessionManager(session_id, **self._address, ensure_indexes=False)

    async def new_session(self) -> str:
        session_id = f"s-{next(_numbers)}"
        await self.repository.create_session(Session(session_id=session_id, session_type=SessionType.AGENT))
        return session_id

    @asynccontextmanager
    async def refusing(self, error: type[Exception] | tuple[type[Exception], ...], match: str) -> AsyncIterator[None]:
        """Assert that the block is refused, and that nothing was sent."""
        with self.recorder.counting() as commands, pytest.raises(error, match=match):
            yield
        assert commands.names == []


@pytest.fixture
def store(mongo_uri: str, database_name: str, command_recorder: CommandRecorder) -> Iterator[Store]:
    store = Store(mongo_uri, database_name, command_recorder)
    with store.client:
        yield store


def an_agent(agent_id: Any, **state: Any) -> SessionAgent:
    return SessionAgent(agent_id=agent_id, state=state, conversation_manager_state={})


def said(value: Any, number: int = 0) -> SessionMessage:
    message: Any = {"role": "user", "content": [{"text": "hi"}, value]}
    return SessionMessage(message, number)


@pytest.mark.thorough
@slow
@given(agent_ids=st.lists(names, min_size=1, max_size=4, unique=True))
@example(agent_ids=["", "%", "%25", "."])
@example(agent_ids=["a.b", "a", "a%2Eb", "$a"])
@example(agent_ids=["agent_data", "messages", "0", "__bson__"])
async def test_agents_of_any_name_are_told_apart(store: Store, agent_ids: list[str]) -> None:
    repository = store.repository
    session_id = await store.new_session()
    for number, agent_id in enumerate(agent_ids):
        await repository.create_agent(session_id, an_agent(agent_id, number=number))
        await repository.create_message(session_id, agent_id, said({"text": agent_id}))
        await repository.update_agent_config(session_id, agent_id, model=f"m-{number}")

    for number, agent_id in enumerate(agent_ids):
        read = await repository.read_agent(session_id, agent_id)
        (message,) = await repository.list_messages(session_id, agent_id)
        assert read is not None
        assert (read.agent_id, read.state) == (agent_id, {"number": number})
        assert message.message["content"][1] == {"text": agent_id}
        assert (await repository.read_message(session_id, agent_id, 0)) == message
    configs = await repository.list_agents(session_id)
    assert {config["agent_id"]: config["model"] for config in configs} == {
        agent_id: f"m-{number}" for number, agent_id in enumerate(agent_ids)
    }
    assert await repository.delete_agent(session_id, agent_ids[0])
    assert {config["agent_id"] for config in await repository.list_agents(session_id)} == set(agent_ids[1:])


@slow
@given(agent_id=names, state=st.dictionaries(names, json_values, max_size=3))
@example(agent_id="sales.eu", state={"$set": {"": {"a.b": 1 << 80}}})
async def test_an_agent_of_any_name_resumes(store: Store, agent_id: str, state: Document) -> None:
    assume(agent_id and os.path.basename(agent_id) == agent_id)  # Strands' own rules
    session_id = await store.new_session()
    async with store.manager(session_id) as manager:
        await make_agent(manager, "hello", agent_id=agent_id, state=state).invoke_async("hi")

    async with store.manager(session_id) as manager:
        resumed = make_agent(manager, agent_id=agent_id)
        summary = await manager.get_metrics_summary(agent_id)
        count = await manager.get_message_count(agent_id)

    assert same(resumed.state.get(), state)
    assert [message["role"] for message in resumed.messages] == ["user", "assistant"]
    assert summary["tokens"]["total"] == 15
    assert count == 2


class _Graph(MultiAgentBase):
    """As much of a graph as is stored."""

    def __init__(self, graph_id: str, state: Document) -> None:
        self.id, self.state = graph_id, state

    def serialize_state(self) -> Document:
        return self.state

    def deserialize_state(self, payload: Document) -> None:
        self.state = payload

    async def invoke_async(self, task: Any, invocation_state: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError


@slow
@given(graphs=st.dictionaries(names, values, min_size=1, max_size=3))
@example(graphs={"a.b": 1, "a": 2, "": 3})
async def test_graphs_of_any_name_resume(store: Store, graphs: Document) -> None:
    session_id = await store.new_session()
    async with store.manager(session_id) as manager:
        for graph_id, value in graphs.items():
            graph = _Graph(graph_id, {"value": value})
            manager.initialize_multi_agent(graph)
            manager.sync_multi_agent(graph)

    async with store.manager(session_id) as manager:
        for graph_id, value in graphs.items():
            restored = _Graph(graph_id, {})
            manager.initialize_multi_agent(restored)
            assert same(restored.state, {"value": value})
            assert same(await store.repository.read_multi_agent(session_id, graph_id), {"value": value})


@slow
@given(tools=st.lists(names, min_size=1, max_size=4, unique=True))
@example(tools=["a.b", "a", "$a", ""])
async def test_tools_of_any_name_are_counted_apart(store: Store, tools: list[str]) -> None:
    session_id = await store.new_session()
    async with store.manager(session_id) as manager:
        agent = make_agent(manager, "hello", "hello again")
        await agent.invoke_async("hi")
        for count, name in enumerate(tools, start=1):
            use: Any = {"toolUseId": "t", "name": name, "input": {}}
            agent.event_loop_metrics.tool_metrics[name] = ToolMetrics(use, call_count=count, success_count=count)
        await agent.invoke_async("hi again")

        counted = (await manager.get_metrics_summary())["tool_calls"]

    assert {name: tool["call_count"] for name, tool in counted.items()} == dict(zip(tools, itertools.count(1)))
    stored = await store.repository.collection.find_one({"_id": session_id})
    reported = stored["agents"]["assistant"]["messages"][-1]["event_loop_metrics"]["tool_usage"]
    assert sorted(tool["call_count"] for tool in reported.values()) == list(range(1, len(tools) + 1))


metadata_names = (
    st.text(st.characters(codec="utf-8", exclude_characters=".\x00"), min_size=1)
    .filter(lambda name: not name.startswith("$"))
    .filter(lambda name: name != "__bson__")
)


@slow
@given(path=st.lists(metadata_names, min_size=1, max_size=5), value=values)
@example(path=["0", "1"], value={"a.b": {"$c": 1}})
@example(path=["_id", "%2E"], value=None)
async def test_metadata_under_any_good_key_comes_back_nested(store: Store, path: list[str], value: Any) -> None:
    session_id = await store.new_session()
    async with store.manager(session_id) as manager:
        await manager.update_metadata({".".join(path): value})
        found: Any = (await manager.get_metadata())["metadata"]
        await manager.delete_metadata([".".join(path)])
        left: Any = (await manager.get_metadata())["metadata"]

    for name in path[:-1]:
        found, left = found[name], left[name]
    assert same(_as_metadata(value), found[path[-1]])
    assert path[-1] not in left


@slow
@given(key=st.one_of(names, st.integers(), st.none(), st.binary(), st.tuples(names)), value=json_values)
@example(key="a..b", value=1)
@example(key="$where", value="1")
@example(key="a.$b", value=1)
@example(key="__bson__", value="keys")
@example(key="\ud800", value=1)
@example(key=".".join("a" * 200), value=1)
async def test_metadata_is_stored_under_its_key_or_refused_unsent(store: Store, key: Any, value: Any) -> None:
    session_id = await store.new_session()
    async with store.manager(session_id) as manager:
        with store.recorder.counting() as commands:
            try:
                await manager.update_metadata({key: value})
            except InvalidNameError:
                assert commands.names == []
                async with store.refusing(InvalidNameError, "metadata key"):
                    await manager.delete_metadata([key])
                async with store.refusing(InvalidNameError, "metadata key"):
                    await store.repository.list_sessions(metadata={key: 1})
                return
        found: Any = (await manager.get_metadata())["metadata"]

    for name in key.split("."):
        found = found[name]
    assert same(_as_metadata(value), found)


@slow
@given(session_id=names.filter(bool))
@example(session_id="$where")
@example(session_id="a\x00b")
@example(session_id="../etc/passwd")
async def test_a_session_of_any_name_is_found_by_it(store: Store, session_id: str) -> None:
    repository = store.repository
    if not _is_text(session_id):
        async with store.refusing(InvalidNameError, "session id"):
            await repository.create_session(Session(session_id=session_id, session_type=SessionType.AGENT))
        return

    async with store.manager(session_id) as manager:
        await manager.update_metadata({"name": session_id})

    assert await repository.get_metadata(session_id) == {"metadata": {"name": session_id}}
    listed = await repository.list_sessions(metadata={"name": session_id})
    assert [session["session_id"] for session in listed["sessions"]] == [session_id]
    assert await repository.delete_session(session_id) == 1


NOT_SESSION_IDS = [{"$gt": ""}, {"$ne": None}, ["s-1"], None, 1, b"s-1", "", True, "\ud800", ("s-1",)]
ARGUMENTS: Document = {
    "agent_id": "a",
    "feedback": {"rating": "up"},
    "message_id": 0,
    "metadata": {"a": 1},
    "metadata_keys": ["a"],
    "multi_agent": _Graph("g", {}),
    "multi_agent_id": "g",
    "new_session_id": "s-2",
    "prompt_metadata": {"version": 1},
    "session_agent": an_agent("a"),
    "session_message": said({"text": "hi"}),
    "title": "hello",
}


OF_ALL_AGENTS_WITHOUT_ONE = ("fork_session", "get_metrics_summary", "messages_pipeline")


def operations_by_session_id() -> list[str]:
    methods = inspect.getmembers(AsyncMongoDBSessionRepository, inspect.iscoroutinefunction)
    return [name for name, method in methods if "session_id" in inspect.signature(method).parameters and name[0] != "_"]


@pytest.mark.parametrize("session_id", NOT_SESSION_IDS, ids=repr)
async def test_what_is_no_session_id_never_reaches_a_query(store: Store, session_id: Any) -> None:
    operations = operations_by_session_id()
    assert len(operations) > 20
    for name in operations:
        method = getattr(store.repository, name)
        needed = [p.name for p in inspect.signature(method).parameters.values() if p.default is p.empty]
        arguments = {each: ARGUMENTS[each] for each in needed if each not in ("session_id", "kwargs")}
        async with store.refusing(InvalidNameError, "session id"):
            await method(session_id=session_id, **arguments)
    async with store.refusing(InvalidNameError, "session id"):
        await store.repository.create_session(SimpleNamespace(session_id=session_id, session_type="AGENT"))  # type: ignore[arg-type]
    async with store.refusing(InvalidNameError, "session id"):
        store.manager(session_id)


@pytest.mark.parametrize("agent_id", [{"$gt": ""}, ["a"], None, 1, b"a"], ids=repr)
async def test_what_is_no_agent_id_never_reaches_a_query(store: Store, agent_id: Any) -> None:
    repository = store.repository
    session_id = await store.new_session()
    for name in operations_by_session_id():
        parameters = inspect.signature(getattr(repository, name)).parameters
        if "agent_id" not in parameters or name in OF_ALL_AGENTS_WITHOUT_ONE:
            continue
        arguments = {p.name: ARGUMENTS.get(p.name) for p in parameters.values() if p.default is p.empty}
        arguments |= {"session_id": session_id, "agent_id": agent_id}
        arguments.pop("kwargs", None)
        async with store.refusing(InvalidNameError, "agent id"):
            await getattr(repository, name)(**arguments)
    for name in OF_ALL_AGENTS_WITHOUT_ONE if agent_id is not None else ():
        async with store.refusing(InvalidNameError, "agent id"):
            others = {"new_session_id": "s-2"} if name == "fork_session" else {}
            await getattr(repository, name)(session_id=session_id, agent_id=agent_id, **others)
    for agent_operation in (repository.create_agent, repository.update_agent):
        async with store.refusing(InvalidNameError, "agent id"):
            await agent_operation(session_id, an_agent(agent_id))
    async with store.refusing(InvalidNameError, "agent id"):
        await repository.list_sessions(agent_id={"$gt": ""})  # type: ignore[arg-type]
    async with store.refusing(InvalidNameError, "agent id"):
        await store.manager(session_id).open(agents=[agent_id])


@slow
@given(value=values)
@example(value={"__bson__": "int", "value": "0x1"})
@example(value={"__bytes_encoded__": True, "data": "AAAA"})
@example(value={1: "a", "1": "b"})
@example(value=[math.nan, -0.0, 1 << 63, -(1 << 63), True, 1, 1.0])
async def test_a_message_of_any_value_is_read_back_equal(store: Store, value: Any) -> None:
    repository = store.repository
    session_id = await store.new_session()
    await repository.create_agent(session_id, an_agent("a", value=value))
    block = {"toolUse": {"toolUseId": "t", "name": "n", "input": value}}
    await repository.create_message(session_id, "a", said(block))

    read = await repository.read_message(session_id, "a", 0)
    agent = await repository.read_agent(session_id, "a")

    assert read is not None
    assert agent is not None
    assert same(read.message["content"][1], block)
    assert same(agent.state, {"value": value})


@slow
@given(value=values, custom=values)
@example(value={"a.b": {"$c": b"\x00"}}, custom={"": 1})
async def test_a_conversation_of_any_value_resumes_equal(store: Store, value: Any, custom: Any) -> None:
    session_id = await store.new_session()
    messages: Any = [
        {"role": "user", "content": [{"text": "hi"}], "metadata": {"custom": {"value": custom}}},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "n", "input": value}}]},
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "t", "status": "success", "content": [{"json": value}]}}],
        },
        {"role": "assistant", "content": [{"text": "done"}], "another": value},
    ]
    async with store.manager(session_id) as manager:
        agent = make_agent(manager, messages=messages)
        held = list(agent.messages)

    async with store.manager(session_id) as manager:
        resumed = make_agent(manager).messages

    # The order of a message's own keys is Strands' business.
    assert same([dict(sorted(m.items())) for m in resumed], [dict(sorted(m.items())) for m in held])


UNSTORABLE: list[tuple[Any, type[Exception]]] = [
    (object(), TypeError),
    ({1, 2}, TypeError),
    (lambda: None, TypeError),
    (1j, TypeError),
    ({"deep": [object()]}, TypeError),
]


@pytest.mark.parametrize(("value", "error"), UNSTORABLE, ids=lambda value: type(value).__name__)
async def test_what_cannot_be_stored_is_refused_unsent(store: Store, value: Any, error: type[Exception]) -> None:
    repository = store.repository
    session_id = await store.new_session()
    async with store.manager(session_id) as manager:
        for refused in (
            lambda: manager.update_metadata({"a": value}),
            lambda: manager.add_feedback({"a": value}),
            lambda: repository.update_metadata(session_id, {"a": value}),
            lambda: repository.add_feedback(session_id, {"a": value}),
            lambda: repository.create_agent(session_id, an_agent("a", value=value)),
            lambda: repository.update_agent(session_id, an_agent("a", value=value)),
            lambda: repository.update_agent_config(session_id, "a", prompt_metadata=value),
            lambda: repository.create_message(session_id, "a", said({"json": value})),
            lambda: repository.update_message(session_id, "a", said({"json": value})),
            lambda: repository.update_multi_agent(session_id, _Graph("g", {"a": value})),
        ):
            async with store.refusing(error, "cannot store"):
                await refused()


@pytest.mark.parametrize("levels", [200, 5000])
async def test_what_is_nested_too_deeply_is_refused_unsent(store: Store, levels: int) -> None:
    deep: Any = 1
    for _ in range(levels):
        deep = {"a": deep}
    endless: Document = {}
    endless["self"] = endless
    session_id = await store.new_session()
    async with store.manager(session_id) as manager:
        for value in (deep, endless):
            async with store.refusing(ValueError, "deep"):
                await manager.update_metadata({"a": value})
            async with store.refusing(ValueError, "deep"):
                await store.repository.create_message(session_id, "a", said({"json": value}))


async def test_the_deepest_value_that_is_accepted_is_stored(store: Store) -> None:
    session_id = await store.new_session()
    deepest = 0
    async with store.manager(session_id) as manager:
        value: Any = 1
        for levels in range(1, 200):
            value = {"a": value}
            try:
                await store.repository.update_multi_agent(session_id, _Graph("g", value))
                await manager.update_metadata({".".join("k" * 20): value})
            except ValueError:
                break
            deepest = levels

        found: Any = (await manager.get_metadata())["metadata"]
    for _ in range(20):
        found = found["k"]
    assert deepest >= 100
    assert str(found).count("a") == deepest


@slow
@given(feedback=st.dictionaries(names, values, max_size=4))
@example(feedback={"a.b": 1, "$set": {"": 2}, "created_at": "never"})
async def test_feedback_of_any_value_is_listed_equal(store: Store, feedback: Document) -> None:
    session_id = await store.new_session()
    async with store.manager(session_id) as manager:
        await manager.add_feedback(feedback)

        (found,) = await manager.get_feedbacks()

    assert isinstance(found.pop("created_at"), datetime)
    feedback.pop("created_at", None)
    assert same(_as_metadata(feedback), found)


@slow
@given(model=names, prompt=names, metadata=values)
async def test_a_configuration_of_any_value_is_read_back(store: Store, model: str, prompt: str, metadata: Any) -> None:
    session_id = await store.new_session()
    await store.repository.create_agent(session_id, an_agent("a"))

    await store.repository.update_agent_config(session_id, "a", model, prompt, metadata)

    config = await store.repository.get_agent_config(session_id, "a")
    assert config is not None
    assert (config["model"], config["system_prompt"]) == (model, prompt)
    assert same(config["prompt_metadata"], metadata)


@slow
@given(cursor=st.one_of(any_text, st.binary().map(lambda raw: raw.hex())))
async def test_a_cursor_of_any_text_is_refused_unsent(store: Store, cursor: str) -> None:
    async with store.refusing(ValueError, "cursor"):
        await store.repository.list_sessions(cursor=cursor)


def _as_metadata(value: Any) -> Any:
    """The value as metadata and feedback give it back: dates are UTC in milliseconds."""
    if isinstance(value, datetime):
        utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return utc.replace(microsecond=utc.microsecond // 1000 * 1000, fold=0)
    if isinstance(value, dict):
        return {_as_metadata(key): _as_metadata(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_as_metadata, value))
    return value


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
