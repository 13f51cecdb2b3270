"""What can be done to sessions: each rule returns an action among what there is, or None where it does not fit."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from strands.agent.conversation_manager import NullConversationManager
from strands.types.content import Message
from strands.types.exceptions import ContextWindowOverflowException
from strands.types.session import SessionMessage

from mongodb_session_manager import SessionNotFoundError, SessionStoreError
from tests.model.reference import AgentReference, SessionReference
from tests.model.world import SESSION_IDS, Action, Document, Live, World, Writer
from tests.support.agents import make_agent
from tests.support.models import Reply, blocked, calls

Rule = Callable[[World, random.Random, str], "Action | None"]
AGENT_IDS = ("plain", "sliding", "summarizing")


def a_message(role: Any, text: str) -> Message:
    return {"role": role, "content": [{"text": text}]}


# -- who writes


def a_writer(world: World, source: random.Random, session_id: str) -> Writer | None:
    found = [w for w in world.writers if w.session_id == session_id and not w.is_orphan and w not in world.busy]
    return source.choice(found) if found else None


def a_live(world: World, source: random.Random, session_id: str) -> Live | None:
    """Return a live agent, built now where its manager has none."""
    writer = a_writer(world, source, session_id)
    if writer is None:
        return None
    agent_id, width = source.choice(AGENT_IDS), source.choice([2, 4, 6])
    if agent_id in writer.lives:
        return writer.lives[agent_id]
    world.tell(f"{writer.name}: build the agent {agent_id!r}, window {width}")
    return world.build(writer, agent_id, width)


def open_manager(world: World, source: random.Random, session_id: str) -> Action | None:
    if sum(writer.session_id == session_id for writer in world.writers) > 3:
        return None
    flush_on = source.choice(["message", "message", "invocation"])
    name, manager = world.new_name(), world.new_manager(session_id, flush_on=flush_on)
    writer = Writer(name, session_id, manager, flush_on)

    async def run() -> None:
        await manager.open()

    def after() -> None:
        world.sessions.setdefault(session_id, SessionReference())
        world.writers.append(writer)

    world.sessions.setdefault(session_id, SessionReference())
    return Action(session_id, f"{name} = open {session_id}, flush_on={flush_on!r}", run, after, is_alone=True)


def close_manager(world: World, source: random.Random, session_id: str) -> Action | None:
    writer = a_writer(world, source, session_id)
    if writer is None:
        return None

    async def run() -> None:
        await writer.manager.close()

    return Action(session_id, f"{writer.name}: close", run, lambda: world.retire(writer), writer=writer, is_alone=True)


def go_on_after_deletion(world: World, source: random.Random, session_id: str) -> Action | None:
    """Writers of a session that was deleted are told so, and bring nothing of it back."""
    writer = next((w for w in world.writers if w.is_orphan and w.session_id == session_id and w.lives), None)
    if writer is None:
        return None
    live = source.choice(list(writer.lives.values()))
    live.agent.hooks._registered_callbacks.clear()
    writer.manager.register_hooks(live.agent.hooks)
    live.agent.model._otherwise = "gone"  # type: ignore[attr-defined]

    async def run() -> None:
        with pytest.raises(SessionNotFoundError):
            await live.agent.invoke_async("Is it there?")
        with pytest.raises(SessionNotFoundError):
            await writer.manager.close()

    tells = f"{writer.name}: a turn and close, of a session that was deleted"
    return Action(session_id, tells, run, lambda: world.retire(writer), is_alone=True)


# -- what is said


def turn(world: World, source: random.Random, session_id: str) -> Action | None:
    return _turn(world, source, session_id, source.choice(["plain", "plain", "tool", "tools", "two"]))


def guarded_turn(world: World, source: random.Random, session_id: str) -> Action | None:
    return _turn(world, source, session_id, source.choice(["user", "assistant"]))


def failing_turn(world: World, source: random.Random, session_id: str) -> Action | None:
    return _turn(world, source, session_id, source.choice(["error", "late error"]))


def overflowing_turn(world: World, source: random.Random, session_id: str) -> Action | None:
    return _turn(world, source, session_id, "overflow")


def leased_turn(world: World, source: random.Random, session_id: str) -> Action | None:
    return _turn(world, source, session_id, source.choice(["plain", "tool", "user"]), leased=True)


def keyed_turn(world: World, source: random.Random, session_id: str) -> Action | None:
    key = source.choice(["k1", "k2", "k3", "k4", "k5", "k6"])
    return _turn(world, source, session_id, source.choice(["plain", "tool"]), leased=True, key=key)


def _turn(
    world: World, source: random.Random, session_id: str, kind: str, *, leased: bool = False, key: str | None = None
) -> Action | None:
    live = a_live(world, source, session_id)
    if live is None:
        return None
    session = world.sessions[session_id]
    prompt = f"{world.word()} asks"
    script = _script(world, live, kind)
    mood = f"mood {world.word()}" if source.random() < 0.3 else None
    replayed = key in session.keys
    failed: list[Exception] = []

    async def invoke() -> None:
        if leased:  # What others stored was restored into it.
            live.held = list(dict.fromkeys([*live.held, *world.held_by(session_id, live.agent.messages)]))
        if mood is not None:
            live.agent.state.set("mood", mood)
        world.play(live, *script)
        try:
            await live.agent.invoke_async(prompt)
        except Exception as error:
            if action.tells.endswith("!"):
                raise
            failed.append(error)

    async def run() -> None:
        if not leased:
            await invoke()
        else:
            async with live.writer.manager.turn(idempotency_key=key) as taken:
                assert taken.replayed == replayed
                if taken.replayed:
                    return
                if key is not None:
                    live.writer.flush_on, before = "invocation", live.writer.flush_on
                    try:
                        await invoke()
                    finally:
                        live.writer.flush_on = before
                else:
                    await invoke()
        await live.writer.manager.flush()

    def after() -> None:
        if failed and kind not in ("error", "late error", "overflow"):
            raise failed[0]
        session.errors += len(failed)
        if key is not None:
            session.keys.add(key)
        if kind == "user":
            said = action.said[live.agent_id][0]
            world.redacted(said.shows)
            session.change(said, script[0].redact_user, is_redacted=True)
            session.events += 1
            world.intrude(session_id, live.agent_id, beside=live)
        if kind == "assistant":
            world.redacted(script[0].text)

    how = f", {kind}" + (", in a turn()" if leased else "") + (f" with the key {key}" if key else "")
    tells = f"{live.writer.name}: {live.agent_id!r} is asked {prompt!r}{how}" + (f", state {mood!r}" if mood else "")
    if replayed:
        tells += ", replayed"
    action = Action(session_id, tells, run, after, live=live, writer=live.writer, is_alone=leased)
    if kind == "user":
        # What takes its place is the same message.
        said = world.say(session_id, "user", prompt)
        session.known[script[0].redact_user.split()[0]] = said
        action.is_alone = True
    return action


def _script(world: World, live: Live, kind: str) -> list[Any]:
    answer = f"{world.word()} answers"

    def call(count: int) -> Reply:
        tools = [("note", {"word": world.word()}) for _ in range(count)]
        return calls(*tools, text=f"{world.word()} calls")

    scripts: dict[str, Callable[[], list[Any]]] = {
        "plain": lambda: [answer],
        "tool": lambda: [call(1), answer],
        "tools": lambda: [call(2), answer],
        "two": lambda: [call(1), call(1), answer],
        "user": lambda: [blocked(user=f"{world.word()} blocked", text=answer)],
        "assistant": lambda: [blocked(assistant=f"{world.word()} blocked", text=answer)],
        "error": lambda: [Reply(error=RuntimeError("the model failed"))],
        "late error": lambda: [call(1), Reply(text=answer, error=RuntimeError("the model failed"))],
        "overflow": lambda: [
            Reply(error=ContextWindowOverflowException("too long")),
            *([f"{world.word()} sums up"] if live.agent_id == "summarizing" else []),
            answer,
            answer,
        ],
    }
    return scripts[kind]()


def by_hand(world: World, source: random.Random, session_id: str) -> Action | None:
    live = a_live(world, source, session_id)
    if live is None:
        return None
    role = source.choice(["user", "assistant"])
    said = world.say(session_id, role, f"{world.word()} by hand")

    async def run() -> None:
        action.said[live.agent_id] = [said]
        live.latest = said
        live.writer.manager.append_message(a_message(role, said.shows or ""), live.agent)
        await live.writer.manager.flush()

    tells = f"{live.writer.name}: {live.agent_id!r}.append_message({role}, {said.shows!r})"
    action = Action(session_id, tells, run, live=live, writer=live.writer, is_by_hand=True)
    return action


def by_repository(world: World, source: random.Random, session_id: str) -> Action | None:
    session = world.sessions.get(session_id)
    if session is None or not session.agents:
        return None
    agent_id = source.choice(sorted(session.agents))
    role = source.choice(["user", "assistant"])
    said = world.say(session_id, role, f"{world.word()} by repository")
    number = len(session.agents[agent_id].messages)

    async def run() -> None:
        action.said[agent_id] = [said]
        message = SessionMessage(a_message(role, said.shows or ""), number)
        await world.repository.create_message(session_id, agent_id, message)

    action = Action(
        session_id,
        f"repository: create_message({session_id}, {agent_id!r}, {number}, {said.shows!r})",
        run,
        is_alone=True,
    )
    return action


def found_without_event(world: World, source: random.Random, session_id: str) -> Action | None:
    """Messages that code puts into the agent's history are stored when it is synced."""
    live = a_live(world, source, session_id)
    if live is None:
        return None
    said = [world.say(session_id, role, f"{world.word()} found") for role in ("user", "assistant")]

    async def run() -> None:
        action.said[live.agent_id] = said
        live.latest = said[-1]
        live.agent.messages.extend(a_message(one.role, one.shows or "") for one in said)
        live.writer.manager.sync_agent(live.agent)
        await live.writer.manager.flush()

    tells = f"{live.writer.name}: {live.agent_id!r}.messages.extend({[one.shows for one in said]}), sync_agent"
    action = Action(session_id, tells, run, live=live, writer=live.writer)
    return action


def sync_unknown(world: World, source: random.Random, session_id: str) -> Action | None:
    """An agent that was not built with the manager is added, unless the session has one of its id."""
    writer = a_writer(world, source, session_id)
    if writer is None:
        return None
    agent_id = "guest"
    said = [world.say(session_id, role, f"{world.word()} of a guest") for role in ("user", "assistant")]
    agent = make_agent(
        None,
        agent_id=agent_id,
        messages=[a_message(one.role, one.shows or "") for one in said],
        conversation_manager=NullConversationManager(),
    )
    is_known = agent_id in writer.lives or agent_id in writer.manager._lifetime.session.agents
    tells = f"{writer.name}: sync_agent(an agent {agent_id!r} that was not built with it)"
    if is_known and agent_id in writer.lives:
        return None
    if is_known:

        async def refused() -> None:
            with pytest.raises(SessionStoreError):
                writer.manager.sync_agent(agent)

        return Action(session_id, tells + ", which is refused", refused, writer=writer, is_alone=True)

    async def run() -> None:
        action.said[agent_id] = said
        live.latest = said[-1]
        writer.manager.sync_agent(agent)
        await writer.manager.flush()

    live = world.follow(writer, agent)
    action = Action(session_id, tells, run, live=live, writer=writer, is_alone=True)
    return action


# -- what changes


def set_state(world: World, source: random.Random, session_id: str) -> Action | None:
    live = a_live(world, source, session_id)
    if live is None:
        return None
    mood = f"mood {world.word()}"

    async def run() -> None:
        live.agent.state.set("mood", mood)
        live.writer.manager.sync_agent(live.agent)
        await live.writer.manager.flush()

    tells = f"{live.writer.name}: {live.agent_id!r}.state.set('mood', {mood!r}), sync_agent"
    return Action(session_id, tells, run, live=live, writer=live.writer)


def forget_messages(world: World, source: random.Random, session_id: str) -> Action | None:
    """Code takes messages out of the agent's history."""
    live = a_live(world, source, session_id)
    if live is None or len(live.agent.messages) < 2:
        return None
    count = source.randint(1, len(live.agent.messages))

    async def run() -> None:
        del live.agent.messages[:count]
        live.writer.manager.sync_agent(live.agent)
        await live.writer.manager.flush()

    tells = f"{live.writer.name}: del {live.agent_id!r}.messages[:{count}], sync_agent"
    return Action(session_id, tells, run, live=live, writer=live.writer)


def redact_latest(world: World, source: random.Random, session_id: str) -> Action | None:
    live = a_live(world, source, session_id)
    if live is None or live.latest is None or live.latest.shows is None:
        return None
    session, said = world.sessions[session_id], live.latest
    if said not in session.agents.get(live.agent_id, AgentReference()).messages or said.key == said.shows:
        return None
    text = f"{world.word()} redacted"
    session.known[text.split()[0]] = said

    async def run() -> None:
        # As Strands does: its own message first.
        message = next((m for m in live.agent.messages if world.recognize(session_id, m) is said), None)
        if message is None:
            message = a_message(said.role, text)
        else:
            message["content"] = [{"text": text}]
        live.writer.manager.redact_latest_message(message, live.agent)
        await live.writer.manager.flush()

    def after() -> None:
        world.redacted(said.shows)
        session.change(said, text, is_redacted=True)
        session.events += 1
        world.intrude(session_id, live.agent_id, beside=live)

    tells = f"{live.writer.name}: {live.agent_id!r}.redact_latest_message({text!r}), in the place of {said.shows!r}"
    return Action(session_id, tells, run, after, live=live, writer=live.writer, is_alone=True)


def update_message(world: World, source: random.Random, session_id: str) -> Action | None:
    session = world.sessions.get(session_id)
    candidates = [
        (agent_id, number, said)
        for agent_id, agent in sorted(session.agents.items() if session else ())
        for number, said in enumerate(agent.messages)
        if said.shows is not None and "calls" not in said.shows
    ]
    if session is None or not candidates:
        return None
    agent_id, number, said = source.choice(candidates)
    text = f"{world.word()} corrected"
    session.known[text.split()[0]] = said
    tells = (
        f"repository: update_message({session_id}, {agent_id!r}, {number}, {text!r}), in the place of {said.shows!r}"
    )

    async def run() -> None:
        message = SessionMessage(a_message(said.role, text), number)
        if said.is_redacted:
            with pytest.raises(SessionStoreError):
                await world.repository.update_message(session_id, agent_id, message)
        else:
            await world.repository.update_message(session_id, agent_id, message)

    def after() -> None:
        if not said.is_redacted:
            session.change(said, text, is_redacted=False)
            world.intrude(session_id, agent_id)

    return Action(session_id, tells, run, after, is_alone=True)


def delete_agent(world: World, source: random.Random, session_id: str) -> Action | None:
    session = world.sessions.get(session_id)
    if session is None or not session.agents:
        return None
    agent_id = source.choice(sorted(session.agents))

    async def run() -> None:
        assert await world.repository.delete_agent(session_id, agent_id)

    def after() -> None:
        session.delete_agent(agent_id)
        world.intrude(session_id, agent_id)

    return Action(session_id, f"repository: delete_agent({session_id}, {agent_id!r})", run, after, is_alone=True)


# -- what is the session's


def set_metadata(world: World, source: random.Random, session_id: str) -> Action | None:
    writer, name, value = a_writer(world, source, session_id), source.choice("abc"), world.word()
    if session_id not in world.sessions:
        return None
    session = world.sessions[session_id]

    async def run() -> None:
        if writer is None:
            await world.repository.update_metadata(session_id, {name: value})
        else:
            await writer.manager.update_metadata({name: value})

    def after() -> None:
        beside = world.runs_beside
        session.metadata[name] = [*(session.metadata.get(name, []) if beside else []), value]

    def landed(document: Document) -> bool:
        return bool(document["metadata"].get(name) == value)

    who = "repository" if writer is None else writer.name
    return Action(session_id, f"{who}: update_metadata({{{name!r}: {value!r}}})", run, after, landed, writer=writer)


def delete_metadata(world: World, source: random.Random, session_id: str) -> Action | None:
    writer = a_writer(world, source, session_id)
    if writer is None or not world.sessions[session_id].metadata:
        return None
    session = world.sessions[session_id]
    name = source.choice(sorted(session.metadata))

    async def run() -> None:
        await writer.manager.delete_metadata([name])

    def after() -> None:
        del session.metadata[name]

    tells = f"{writer.name}: delete_metadata([{name!r}])"
    return Action(session_id, tells, run, after, writer=writer, is_alone=True)


def feedback(world: World, source: random.Random, session_id: str) -> Action | None:
    writer, rating = a_writer(world, source, session_id), source.choice(["up", "down", "other"])
    if writer is None:
        return None
    session = world.sessions[session_id]

    async def run() -> None:
        await writer.manager.add_feedback({"rating": rating, "comment": world.word() * 20})

    def after() -> None:
        session.ratings[rating] += 1

    def landed(document: Document) -> bool:
        return bool(document["summary"]["feedbacks"] > session.ratings.total())

    return Action(session_id, f"{writer.name}: add_feedback({rating!r})", run, after, landed, writer=writer)


def rename(world: World, source: random.Random, session_id: str) -> Action | None:
    session = world.sessions.get(session_id)
    if session is None:
        return None
    title = f"Title {world.word()}"

    async def run() -> None:
        await world.repository.rename_session(session_id, title)

    def after() -> None:
        session.title, session.title_of = title, None

    def landed(document: Document) -> bool:
        return bool(document.get("title") == title)

    return Action(session_id, f"repository: rename_session({session_id}, {title!r})", run, after, landed, is_alone=True)


# -- the session as a whole


def seal(world: World, source: random.Random, session_id: str) -> Action | None:
    if session_id not in world.sessions:
        return None

    async def run() -> None:
        await world.seal(session_id)

    return Action(session_id, f"another process seals {session_id}", run)


def sweep(world: World, source: random.Random, session_id: str) -> Action | None:
    async def run() -> None:
        await world.repository.sweep_orphans(older_than=timedelta(0), dry_run=False)

    return (
        Action(session_id, "repository: sweep_orphans()", run, is_alone=True) if session_id in world.sessions else None
    )


def fork(world: World, source: random.Random, session_id: str) -> Action | None:
    free = [one for one in SESSION_IDS if one not in world.sessions and not _orphans(world, one)]
    session = world.sessions.get(session_id)
    if not free or session is None:
        return None
    new_id = free[0]
    counts, agent_id, number = None, None, None
    spoken = [one for one, agent in sorted(session.agents.items()) if agent.messages]
    if spoken and source.random() < 0.5:
        agent_id = source.choice(spoken)
        number = source.randrange(len(session.agents[agent_id].messages))
        counts = world.said_by_then(session_id, agent_id, number)

    async def run() -> None:
        await world.repository.fork_session(session_id, new_id, up_to_message=number, agent_id=agent_id)

    def after() -> None:
        world.sessions[new_id] = made = session.fork(counts)
        if counts is not None:
            document = world.document(new_id)
            assert document is not None
            # When graphs were, and turns failed, the reference does not know.
            made.errors, made.events = document["summary"]["errors"], len(world.events(document))

    what = "" if number is None else f", up_to_message={number}, agent_id={agent_id!r}"
    return Action(session_id, f"repository: fork_session({session_id}, {new_id}{what})", run, after, is_alone=True)


def delete_session(world: World, source: random.Random, session_id: str) -> Action | None:
    if session_id not in world.sessions:
        return None
    writer = a_writer(world, source, session_id)

    async def run() -> None:
        if writer is None:
            await world.repository.delete_session(session_id)
        else:
            await writer.manager.delete_session()

    def after() -> None:
        del world.sessions[session_id]
        for other in list(world.writers):
            if other.session_id == session_id:
                other.is_orphan = True
                if not other.lives:
                    world.retire(other)

    who = "repository" if writer is None else writer.name
    return Action(session_id, f"{who}: delete_session({session_id})", run, after, is_alone=True)


def _orphans(world: World, session_id: str) -> list[Writer]:
    return [writer for writer in world.writers if writer.session_id == session_id and writer.is_orphan]


SMALL: dict[str, tuple[Rule, int]] = {
    "turn": (turn, 12),
    "by_hand": (by_hand, 5),
    "found_without_event": (found_without_event, 2),
    "set_state": (set_state, 3),
    "forget_messages": (forget_messages, 2),
    "set_metadata": (set_metadata, 2),
    "feedback": (feedback, 2),
    "rename": (rename, 1),
    "seal": (seal, 3),
    "failing_turn": (failing_turn, 1),
    "overflowing_turn": (overflowing_turn, 2),
}
"""What may also be done beside each other, and killed on the way."""

ALONE: dict[str, tuple[Rule, int]] = {
    "open_manager": (open_manager, 7),
    "close_manager": (close_manager, 2),
    "go_on_after_deletion": (go_on_after_deletion, 2),
    "guarded_turn": (guarded_turn, 3),
    "leased_turn": (leased_turn, 2),
    "keyed_turn": (keyed_turn, 2),
    "by_repository": (by_repository, 3),
    "sync_unknown": (sync_unknown, 1),
    "redact_latest": (redact_latest, 3),
    "update_message": (update_message, 3),
    "delete_agent": (delete_agent, 1),
    "delete_metadata": (delete_metadata, 1),
    "sweep": (sweep, 1),
    "fork": (fork, 2),
    "delete_session": (delete_session, 1),
}

RULES = {name: rule for name, (rule, _) in {**SMALL, **ALONE}.items()}
WEIGHTS = {name: weight for name, (_, weight) in {**SMALL, **ALONE}.items()} | {"beside": 8, "killed": 4}
