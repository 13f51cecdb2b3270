"""What a manager owes the database: collected, frozen, acknowledged and rebased, without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from strands.types.content import Message

from mongodb_session_manager.schema.sessions import new_session
from mongodb_session_manager.session.pending import PendingChanges
from mongodb_session_manager.session.pending_agent import PendingAgent
from mongodb_session_manager.session.record import Origin, Record, RecordState
from mongodb_session_manager.store.executor import Conflict
from mongodb_session_manager.store.head import SessionHead
from mongodb_session_manager.store.loaded import StoredSession

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEAD = SessionHead("s-1", incarnation="i")
KEY = "a"


def changes_of() -> tuple[PendingChanges, PendingAgent]:
    """Return the changes of a new session with one new agent."""
    changes = PendingChanges(StoredSession.from_document(new_session("s-1", NOW)))
    agent = changes.agents[KEY] = PendingAgent(KEY)
    return changes, agent


def said(text: str, role: str = "user") -> Record:
    message: Any = {"role": role, "content": [{"text": text}]}
    record, problem = Record.of(message, KEY)
    assert problem is None
    return record


def conflict(agent: PendingAgent, next_id: int) -> Conflict:
    assert agent.archive_id is not None
    return Conflict(HEAD, {KEY: next_id}, False, archive_ids={KEY: agent.archive_id})


def numbers_of(update: Any) -> list[int]:
    return [message.message_id for changes in update.agents for message in changes.messages]


def store(changes: PendingChanges) -> Any:
    """Freeze what is pending, and acknowledge all of it."""
    batch = changes.freeze()
    if batch is not None:
        for update in batch.updates:
            changes.acknowledge(update)
            batch.advance()
        assert batch.is_done
        assert batch.error is None
    return batch


def test_nothing_pending_is_no_batch() -> None:
    changes, _ = changes_of()
    store(changes)

    assert changes.freeze() is None


def test_one_batch_holds_messages_state_and_window_of_a_new_agent() -> None:
    changes, agent = changes_of()
    agent.append(said("Hi."))
    agent.capture_state("state", {"mood": "good"})

    batch = changes.freeze()

    assert batch is not None
    [update] = batch.updates
    guard, rendered = update.render()
    stored = rendered["$set"]["agents.a"]
    assert guard == {"agents.a": {"$exists": False}}
    assert (stored["next_message_id"], stored["window"]) == (1, [[0, None]])
    assert stored["agent_data"]["state"] == {"mood": "good"}
    assert rendered["$inc"]["summary.messages"] == 1
    assert agent.records[0].state is RecordState.FROZEN


def test_a_state_that_is_what_it_was_is_not_written_again() -> None:
    changes, agent = changes_of()
    agent.capture_state("state", {"mood": "good"})
    store(changes)

    agent.capture_state("state", {"mood": "good"})

    assert changes.freeze() is None


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.integers(0, 7))
def test_messages_are_numbered_anew_behind_those_of_another_writer(frozen: list[int], others: int) -> None:
    changes, agent = changes_of()
    store(changes)
    for count in frozen[:1]:
        for number in range(count):
            agent.append(said(f"frozen {number}"))
    batch = changes.freeze()
    assert batch is not None
    for count in frozen[1:]:
        for number in range(count):
            agent.append(said(f"later {number}"))

    adjusted = changes.rebase(batch, conflict(agent, others))

    assert adjusted is bool(others)
    assert numbers_of(batch.updates[0]) == list(range(others, others + frozen[0]))
    for update in batch.updates:
        changes.acknowledge(update)
    later = changes.freeze()
    expected = list(range(others + frozen[0], others + sum(frozen)))
    assert ([] if later is None else numbers_of(later.updates[0])) == expected


def test_an_agent_that_another_writer_made_first_is_appended_to() -> None:
    changes, agent = changes_of()
    agent.append(said("Hi."))
    batch = changes.freeze()
    assert batch is not None

    assert changes.rebase(batch, conflict(agent, 4))

    guard, rendered = batch.updates[0].render()
    archive = {"agents.a.archive.id": agent.archive_id}
    assert guard == {"agents.a.next_message_id": 4, "agents.a.window": None, **archive}
    assert rendered["$push"]["agents.a.messages"]["$each"][0]["message_id"] == 4


def test_an_agent_that_was_deleted_is_made_anew() -> None:
    changes, agent = changes_of()
    store(changes)
    agent.append(said("Hi."))
    batch = changes.freeze()
    assert batch is not None

    assert changes.rebase(batch, Conflict(HEAD, {}, message_found=False))

    assert batch.updates[0].render()[0] == {"agents.a": {"$exists": False}}


def test_a_message_that_was_sealed_meanwhile_is_changed_in_its_segment() -> None:
    changes, agent = changes_of()
    record = said("Hi.")
    agent.append(record)
    store(changes)
    agent.change(record, {"content": [{"text": "[redacted]"}], "redact_message": {"content": []}})
    batch = changes.freeze()
    assert batch is not None

    assert changes.rebase(batch, conflict(agent, 1))

    first = batch.updates[0]
    assert first.message is not None
    assert first.message.sealed
    assert not any(path.startswith("agents.a.messages") for path in first.render()[1].get("$set", {}))


def test_an_original_that_was_never_sent_never_will_be() -> None:
    changes, agent = changes_of()
    record = said("my secret")
    agent.append(record)
    agent.change(record, {"content": [{"text": "[redacted]"}], "redact_message": {"content": []}})

    batch = changes.freeze()

    assert batch is not None
    assert "my secret" not in repr([update.render() for update in batch.updates])


@given(st.integers(1, 6), st.integers(1, 60))
def test_an_agent_with_a_window_keeps_as_many_records_as_it_holds(width: int, turns: int) -> None:
    changes, agent = changes_of()
    held: list[Record] = []
    for turn in range(turns):
        record = said(f"question {turn}")
        agent.append(record)
        held = [*held, record][-width:]
        agent.see_window(held, 0)
        store(changes)
        agent.see_window(held, 0)

    assert agent.records == held
    assert changes.freeze() is None


def test_messages_by_hand_and_of_other_writers_stay_in_the_window() -> None:
    changes, agent = changes_of()
    own = [said("one"), said("two")]
    by_hand = said("by hand")
    by_hand.origin = Origin.BY_HAND
    for record in (own[0], by_hand, own[1]):
        agent.append(record)
    agent.see_window(own, 0)
    store(changes)

    agent.append(last := said("three"))
    agent.see_window([own[1], last], 0)
    batch = changes.freeze()
    assert batch is not None
    changes.rebase(batch, conflict(agent, 5))  # Two of another writer came in between.

    assert batch.updates[0].render()[1]["$set"]["agents.a.window"] == [[1, None]]


def test_what_others_stored_of_the_state_is_not_overwritten_and_messages_are_still_appended() -> None:
    changes, agent = changes_of()
    store(changes)
    agent.append(said("Hi."))
    agent.capture_state("state", {"mood": "old"})
    document = {**new_session("s-1", NOW), "agents": {KEY: {"agent_data": {"agent_id": KEY}, "messages": []}}}

    changes.yield_to(StoredSession.from_document(document), ())
    batch = changes.freeze()

    assert batch is not None
    rendered = batch.updates[0].render()[1]
    assert not any("agent_data.state" in path for path in rendered["$set"])
    assert len(rendered["$push"]["agents.a.messages"]["$each"]) == 1


def test_a_rewrite_in_place_is_noticed_wherever_it_is() -> None:
    result: Any = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "long"}]}}
    message: Message = {"role": "user", "content": [result, {"text": "and?"}]}
    record, _ = Record.of(message, KEY)
    assert record.looks_as_seen(message)

    result["toolResult"]["content"][0] = {"text": "short"}
    assert not record.looks_as_seen(message)
    record.see()
    assert record.looks_as_seen(message)

    message["content"][1] = {"text": "[offloaded]"}
    assert not record.looks_as_seen(message)
    record.see()

    message["metadata"] = {"custom": {"pinned": True}}
    assert not record.looks_as_seen(message)


def test_failed_turns_are_told_by_their_class_and_counted() -> None:
    changes, _ = changes_of()
    changes.add_error(KEY, RuntimeError("my secret"), NOW)

    batch = changes.freeze()

    assert batch is not None
    rendered = batch.updates[0].render()[1]
    assert rendered["$push"]["errors"]["$each"] == [{"timestamp": NOW, "agent_id": KEY, "error": "RuntimeError"}]
    assert rendered["$inc"]["summary.errors"] == 1
