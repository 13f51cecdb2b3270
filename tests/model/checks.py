"""What is stored of sessions, and what a resume gives, compared with the reference."""

from __future__ import annotations

import random
from typing import Any

from mongodb_session_manager.schema import values
from tests.model.reference import Said, SessionReference
from tests.model.world import World, conversation_manager
from tests.support.agents import make_agent
from tests.support.invariants import COLLECTION, check_stored
from tests.support.models import HistoryRefusedError, ScriptedModel, check_history, text_of
from tests.support.segments import everything, stored_messages


async def check_all(world: World, source: random.Random) -> None:
    """Assert that every session is what it should be."""
    for session_id in world.sessions:
        await check_session(world, session_id, source)
    stored = {document["_id"] for document in world.database[COLLECTION].find({}, {"_id": 1})}
    assert stored == set(world.sessions)
    check_secrets(world)


def check_secrets(world: World) -> None:
    """Assert that what was redacted is nowhere, unless another session (a fork) still has it."""
    shown = " ".join(said.shows or "" for session in world.sessions.values() for said in session.everything())
    data = everything(world.database) if world.secrets else b""
    for text in world.secrets:
        if text not in shown:
            assert text.encode() not in data, f"{text!r} was redacted, and is still stored"


async def check_session(world: World, session_id: str, source: random.Random) -> None:
    """Assert that a session is what it should be, as it is stored, read and resumed."""
    session = world.sessions[session_id]
    document = check_stored(world.database, session_id)
    check_counters(world, session, document)
    assert set(document["agents"]) == set(session.agents)
    for agent_id in session.agents:
        check_messages(world, session_id, agent_id)
        check_agent(world, session, document, agent_id)
    if session.agents:
        await check_page(world, session_id, source.choice(sorted(session.agents)), source)
    await check_resume(world, session_id, document)


def check_counters(world: World, session: SessionReference, document: dict[str, Any]) -> None:
    assert document.get("title") == session.title
    found = {name: values.decode(value) for name, value in document["metadata"].items()}
    assert set(found) == set(session.metadata)
    for name, value in found.items():
        assert value in session.metadata[name], f"metadata {name!r}"
        session.metadata[name] = [value]
    summary = document["summary"]
    ratings = {name: count for name, count in summary["ratings"].items() if count}
    assert ratings == {name: count for name, count in session.ratings.items() if count}
    assert summary["feedbacks"] == session.ratings.total()
    assert summary["errors"] == session.errors
    assert len(document["errors"]) == min(session.errors, 100)
    events = world.events(document)
    assert len(events) == session.events
    numbers = {agent_id: len(agent.messages) for agent_id, agent in session.agents.items()}
    for event in events:
        if event["agent_id"] in numbers and event["agent_id"] not in session.deleted:
            assert event["message_id"] < numbers[event["agent_id"]], "a guardrail event of no message"


def check_messages(world: World, session_id: str, agent_id: str) -> None:
    agent = world.sessions[session_id].agents[agent_id]
    assert world.stored(session_id, agent_id) == agent.messages
    for said, message in zip(agent.messages, stored_messages(world.database, agent_id, session_id), strict=True):
        assert message["role"] == said.role
        assert ("redact_message" in message) == said.is_redacted, f"{said}"
        if said.shows is not None:
            assert text_of(message) == said.shows  # type: ignore[arg-type]


def check_agent(world: World, session: SessionReference, document: dict[str, Any], agent_id: str) -> None:
    agent, stored = session.agents[agent_id], document["agents"][agent_id]
    if agent.states:
        state = values.decode(stored["agent_data"]["state"])
        assert state in agent.states, f"{agent_id!r} has the state {state}, not {agent.states}"
        agent.states = [state]
    out = world.out_of(document["_id"], agent_id)
    if agent.out is None:
        agent.out = out
    assert out == agent.out, f"{agent_id!r}: {sorted(s.key for s in out ^ agent.out)} in {stored['window']}"


async def check_page(world: World, session_id: str, agent_id: str, source: random.Random) -> None:
    messages = world.sessions[session_id].agents[agent_id].messages
    offset, limit = source.randint(0, len(messages)), source.choice([None, 1, 5])
    found = await world.repository.list_messages(session_id, agent_id, limit, offset)
    keys: list[Said | None] = [world.recognize(session_id, message.to_message()) for message in found]
    assert keys == messages[offset : None if limit is None else offset + limit]


async def check_resume(world: World, session_id: str, document: dict[str, Any]) -> None:
    """Assert that a new manager restores each agent with its window, and that it writes nothing for that."""
    session = world.sessions[session_id]
    manager = await world.new_manager(session_id).open()
    are_sound = True
    repaired: dict[str, set[Said]] = {}
    for agent_id, reference in session.agents.items():
        agent = make_agent(
            manager,
            agent_id=agent_id,
            model=ScriptedModel(),
            conversation_manager=conversation_manager(agent_id, 4),
        )
        found = world.held_by(session_id, agent.messages)
        expected = reference.window
        is_sound = _is_sound(world, session_id, agent_id)
        are_sound = are_sound and is_sound
        if is_sound:
            assert found == expected, f"{agent_id!r} resumes with {found}, not {expected}"
        else:  # Strands repairs it.
            assert [said for said in expected if said in found] == found
            assert {said for said in expected if said.shows is not None} <= set(found)
            repaired[agent_id] = {said for said in expected if said not in found}
        for writer in world.writers:
            live = writer.lives.get(agent_id)
            is_its = writer.session_id == session_id and not writer.is_orphan
            if live is not None and is_its and live.is_alone and is_sound:
                assert [text_of(m) for m in agent.messages] == [text_of(m) for m in live.agent.messages]
                assert agent.state.get() == live.agent.state.get()
    await manager.close()
    after = world.document(session_id)
    assert after is not None
    # What Strands repaired is stored: an orphan that it took out is out.
    if after.get("revision") == document.get("revision"):
        return
    assert not are_sound, "a resume wrote something"
    for agent_id, orphans in repaired.items():
        out = session.agents[agent_id].out
        assert out is not None
        out |= orphans


def _is_sound(world: World, session_id: str, agent_id: str) -> bool:
    """Tell whether each tool call in a window has its result right behind it, and no result is without its call."""
    window = set(world.sessions[session_id].agents[agent_id].window)
    messages: list[Any] = [
        message
        for message in stored_messages(world.database, agent_id, session_id)
        if world.recognize(session_id, message) in window
    ]
    try:
        check_history([*messages, {"role": "user", "content": [{"text": "?"}]}])
    except HistoryRefusedError:
        return False
    return True
