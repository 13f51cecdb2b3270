"""Real sessions, managers and agents, beside the reference of what should be stored of them."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo import AsyncMongoClient, MongoClient
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import (
    ConversationManager,
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.hooks import HookOrder, MessageAddedEvent
from strands.types.content import Message

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionRepository
from mongodb_session_manager.client import ClientHandle
from mongodb_session_manager.schema import paths
from mongodb_session_manager.schema.archives import GUARDRAIL_EVENTS
from mongodb_session_manager.schema.titles import title_of
from mongodb_session_manager.store.sealing import Sealer
from mongodb_session_manager.store.segments import Segments
from mongodb_session_manager.store.store import SessionStore
from tests.model.reference import AgentReference, Said, SessionReference, is_merge, is_prefix
from tests.support.agents import make_agent
from tests.support.interleave import Interleaver
from tests.support.invariants import COLLECTION, sealed
from tests.support.models import Reply, ScriptedModel, text_of
from tests.support.segments import stored_messages

Document = dict[str, Any]
Work = Callable[[], Awaitable[None]]

SESSION_IDS = ("s-0", "s-1", "s-2")
_WORD = re.compile(r"x?w\d+\b")


def conversation_manager(agent_id: str, width: int) -> ConversationManager:
    """Return the conversation manager of an agent: each id stands for one kind."""
    if agent_id == "sliding":
        return SlidingWindowConversationManager(window_size=width)
    if agent_id == "summarizing":
        return SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=2)
    return NullConversationManager()


@dataclass(eq=False)
class Live:
    """A live agent of a writer.

    Attributes:
        held: What it held when it was last looked at.
        taken_out: What it held once, and holds no more.
        latest: The last message that its manager knows of it.
        state: Its state when it was last looked at.
        is_alone: Whether only it wrote to what is stored of it since it was restored, so that a resume gives the same.
        action: What it is doing.
    """

    writer: Writer
    agent: Agent
    held: list[Said]
    state: Any
    latest: Said | None = None
    taken_out: set[Said] = field(default_factory=set)
    is_alone: bool = True
    action: Action | None = None

    @property
    def agent_id(self) -> str:
        return self.agent.agent_id


@dataclass(eq=False)
class Writer:
    """A manager in use."""

    name: str
    session_id: str
    manager: AsyncMongoDBSessionManager
    flush_on: str
    lives: dict[str, Live] = field(default_factory=dict)
    is_orphan: bool = False


@dataclass(eq=False)
class Action:
    """Something that is done to a session, alone or beside other things.

    Attributes:
        tells: What it is, for people.
        run: Does it.
        after: Tells the reference of it once it is over, and its messages are known to be there.
        landed: Tells from the document whether it was stored although its process died; None where others tell.
        said: What it said, by agent, in order.
        sure: How much of that is known to be stored: what acknowledged it.
        live: The agent that acts.
        is_by_hand: What it says, its agent does not hold.
        is_alone: Nothing else may be done meanwhile.
        was_killed: Whether its process died before it was over.
    """

    session_id: str
    tells: str
    run: Work
    after: Callable[[], None] = lambda: None
    landed: Callable[[Document], bool] | None = None
    live: Live | None = None
    writer: Writer | None = None
    said: dict[str, list[Said]] = field(default_factory=dict)
    sure: dict[str, int] = field(default_factory=dict)
    is_by_hand: bool = False
    is_alone: bool = False
    was_killed: bool = False


class World:
    """Sessions in a database of their own; every command goes through an interleaver."""

    def __init__(
        self, client: AsyncMongoClient[Document], raw: MongoClient[Document], name: str, interleaver: Interleaver
    ) -> None:
        self.client = client
        self.database = raw[name]
        self.name = name
        self.interleaver = interleaver
        self.sessions: dict[str, SessionReference] = {}
        self.writers: list[Writer] = []
        self.script: list[str] = []
        self.busy: set[Writer] = set()
        self.runs_beside = False
        self.secrets: set[str] = set()
        self.repository = AsyncMongoDBSessionRepository(database_name=name, collection_name=COLLECTION, client=client)
        self._words = 0
        self._names = 0
        self._actors = 0
        self._tool = self._make_tool()

    def tell(self, text: str) -> None:
        self.script.append(text)

    def redacted(self, text: str | None) -> None:
        """Note a text that must be nowhere from now on."""
        if text:
            self.secrets.add(text)

    # -- words

    def word(self) -> str:
        self._words += 1
        return f"w{self._words}"

    def say(self, session_id: str, role: str, text: str, key: str | None = None) -> Said:
        """Let the reference know of a message that is about to be said."""
        said = Said(key or _word_in(text) or "", role, text)
        self.sessions[session_id].known[said.key] = said
        return said

    def recognize(self, session_id: str, message: Any) -> Said | None:
        """Return the message of the reference that a live or stored one is."""
        known = self.sessions[session_id].known
        for word in _WORD.findall(str(message["content"])):
            if word in known:
                if tracking_id := message.get("tracking_id"):
                    known[tracking_id] = known[word]
                return known[word]
        return known.get(message.get("tracking_id") or "")

    def held_by(self, session_id: str, messages: Sequence[Any]) -> list[Said]:
        found = [self.recognize(session_id, message) for message in messages]
        return [said for said in found if said is not None]

    # -- managers and agents

    def new_manager(self, session_id: str, **options: Any) -> AsyncMongoDBSessionManager:
        return AsyncMongoDBSessionManager(
            session_id,
            database_name=self.name,
            collection_name=COLLECTION,
            client=self.client,
            ensure_indexes=False,
            **options,
        )

    def new_name(self) -> str:
        self._names += 1
        return f"m{self._names}"

    def build(self, writer: Writer, agent_id: str, width: int) -> Live:
        """Build an agent on a manager."""
        agent = make_agent(
            writer.manager,
            agent_id=agent_id,
            model=ScriptedModel(otherwise="?", strict=False),
            conversation_manager=conversation_manager(agent_id, width),
            tools=[self._tool],
        )
        return self.follow(writer, agent)

    def follow(self, writer: Writer, agent: Agent) -> Live:
        held = self.held_by(writer.session_id, agent.messages)
        live = Live(writer, agent, held, dict(agent.state.get()), held[-1] if held else None)
        stored = self.sessions[writer.session_id].agents.get(agent.agent_id)
        # A manager that was opened before a message was corrected restores what was said before.
        shown = [text_of(message) for message in agent.messages]
        is_up_to_date = [said.shows or "" for said in held] == shown
        live.is_alone = stored is None or (
            is_up_to_date and stored.out is not None and stored.window == held and stored.states == [live.state]
        )

        def note(event: MessageAddedEvent[Any]) -> None:
            self._note(live, event.message)

        # Before the manager, which may be killed while it stores the message.
        agent.hooks.add_callback(MessageAddedEvent, note, order=HookOrder.SDK_FIRST)
        writer.lives[agent.agent_id] = live
        return live

    def _note(self, live: Live, message: Message) -> None:
        assert live.action is not None, "a message that no step said"
        session_id = live.writer.session_id
        said = self.recognize(session_id, message)
        if said is None:
            text = "".join(block["text"] for block in message["content"] if "text" in block)
            key = _word_in(str(message["content"])) or message.get("tracking_id")
            is_result = any("toolResult" in block for block in message["content"])
            said = self.say(session_id, message["role"], text, key)
            if is_result:
                said.shows = None
            self.recognize(session_id, message)
        live.action.said.setdefault(live.agent_id, []).append(said)
        live.latest = said

    def live_of(self, agent: Agent) -> Live:
        return next(live for w in self.writers for live in w.lives.values() if live.agent is agent)

    def _make_tool(self) -> Any:
        @tool(context=True)
        def note(word: str, tool_context: ToolContext) -> str:
            """Take a note."""
            self.check_said_is_stored(self.live_of(tool_context.agent))
            tool_context.agent.state.set("noted", word)
            return f"x{word}"

        return note

    def check_said_is_stored(self, live: Live) -> None:
        """Assert that everything said so far is stored, before something acts on it."""
        assert live.action is not None
        if live.writer.flush_on == "invocation":
            return
        stored = set(self.stored(live.writer.session_id, live.agent_id) or ())
        said = live.action.said.get(live.agent_id, [])
        assert set(said) <= stored, "something acts on what is not stored yet"
        live.action.sure[live.agent_id] = len(said)

    def play(self, live: Live, *script: Reply | str) -> None:
        """Let the agent's model answer so in its next calls."""
        replies = list(script)

        def reply(messages: Any) -> Reply | str:
            self.check_said_is_stored(live)
            return replies.pop(0)

        assert isinstance(live.agent.model, ScriptedModel)
        live.agent.model._otherwise = reply

    async def seal(self, session_id: str) -> None:
        """Seal, as another process would."""
        document = self.document(session_id)
        if document is not None:
            store = SessionStore(ClientHandle(client=self.client), self.name, COLLECTION)
            await Sealer(store, Segments(store)).seal(session_id, document["incarnation"])

    # -- what is stored

    def document(self, session_id: str) -> Document | None:
        return self.database[COLLECTION].find_one({"_id": session_id})

    def stored(self, session_id: str, agent_id: str) -> list[Said] | None:
        """Return what is stored of an agent, None when it is not there."""
        document = self.document(session_id)
        if document is None or agent_id not in document["agents"]:
            return None
        found = []
        for message in stored_messages(self.database, agent_id, session_id):
            said = self.recognize(session_id, message)
            assert said is not None, f"a message that was never said is stored: {message}"
            found.append(said)
        return found

    # -- running

    async def perform(self, actions: Sequence[Action], source: random.Random, *, kill: bool = False) -> None:
        """Run actions of one session side by side, and tell the reference of what came of them."""
        session_id = actions[0].session_id
        session = self.sessions.get(session_id)  # None: what is left of a session that was deleted goes on.
        before = {agent_id: list(a.messages) for agent_id, a in session.agents.items()} if session else {}
        self.runs_beside = len(actions) > 1
        names = {}
        for action in actions:
            self._actors += 1
            names[f"a{self._actors}"] = action
            if action.live is not None:
                action.live.action = action
        lost = {source.randint(1, 8)} if source.random() < 0.15 else set()
        killed = {name: (source.randint(1, 6), source.random() < 0.5) for name in names} if kill else {}
        choices = [(source.randint(0, 5), source.randint(1, 6)) for _ in range(40)] if len(actions) > 1 else []
        self.interleaver.plan(choices, lost, killed)
        await self.interleaver.run(**{name: self._acted(action, name) for name, action in names.items()})
        for name, action in names.items():
            action.was_killed = name in self.interleaver.dead
            if action.was_killed and action.writer is not None:
                self.script[-1] += f"  [{action.writer.name} died]"
                self.retire(action.writer)
        if session_id in self.sessions:
            self._adopt(session_id, before, actions)
        document = self.document(session_id)
        for action in actions:
            is_stored = document is not None and action.landed is not None and action.landed(document)
            if not action.was_killed or is_stored:
                action.after()
            if action.writer is not None and not action.writer.is_orphan:
                self._adopt_built(action.writer)
        killed_turns = sum(action.was_killed and action.live is not None for action in actions)
        if session is not None and document is not None and killed_turns:
            # Whether the error of a turn was stored when its process died is open.
            session.errors = min(session.errors + killed_turns, document["summary"]["errors"])
        for action in actions:
            if action.live is not None:
                self.look_at(action.live, before, actions)
                action.live.action = None

    def events(self, document: Document) -> list[Document]:
        """Return the guardrail events of a session, the sealed ones first."""
        holder = paths.at(document, GUARDRAIL_EVENTS.archive) or {}
        archived = sealed(self.database, document, GUARDRAIL_EVENTS.path, None, holder)
        return [*archived, *document[GUARDRAIL_EVENTS.path]]

    def said_by_then(self, session_id: str, agent_id: str, number: int) -> dict[str, int]:
        """Return how many messages each agent had when one of them had said so much; none that came later."""
        document = self.document(session_id)
        assert document is not None
        moment = stored_messages(self.database, agent_id, session_id)[number]["created_at"]
        found = {}
        for other, agent in document["agents"].items():
            dates = [m["created_at"] for m in stored_messages(self.database, other, session_id)]
            count = next((n for n, date in enumerate(dates) if date > moment), len(dates))
            found[other] = number + 1 if other == agent_id else count
            if not found[other] and agent["created_at"] > moment:
                del found[other]
        return found

    def _acted(self, action: Action, name: str) -> Any:
        async def act() -> None:
            try:
                await action.run()
            except Exception:
                if name not in self.interleaver.dead:
                    raise

        return act

    def retire(self, writer: Writer) -> None:
        if writer in self.writers:
            self.writers.remove(writer)

    def _adopt(self, session_id: str, before: dict[str, list[Said]], actions: Sequence[Action]) -> None:
        """Take over in which order things arrived, after checking that all did."""
        session = self.sessions[session_id]
        document = self.document(session_id)
        ids = {agent_id for action in actions for agent_id in action.said}
        for agent_id in ids:
            found = self.stored(session_id, agent_id)
            parts = [action.said.get(agent_id, []) for action in actions]
            if found is None:
                sure = sum(a.sure.get(agent_id, 0) for a in actions)
                assert not sure, f"agent {agent_id!r} is not stored"
                assert all(a.was_killed for a in actions), f"agent {agent_id!r} is not stored"
                continue
            known = before.get(agent_id, [])
            assert found[: len(known)] == known, f"{found} does not go on from {known}"
            added = found[len(known) :]
            if len(actions) == 1 and actions[0].was_killed:
                assert is_prefix(added, parts[0], actions[0].sure.get(agent_id, 0)), f"{added} of {parts[0]}"
            else:
                assert is_merge(added, parts), f"{added} is not what was said: {parts}"
            if agent_id not in session.agents:
                session.agents[agent_id] = AgentReference(states=self._states_of_new(agent_id, actions))
            session.agents[agent_id].messages = found
            speakers = [action.live for action in actions if agent_id in action.said]
            self.intrude(session_id, agent_id, beside=speakers[0] if len(speakers) == 1 else None)
        title = None if document is None else document.get("title")
        session.begin_with(self._firsts(session, before, actions), title)

    def _states_of_new(self, agent_id: str, actions: Sequence[Action]) -> list[dict[str, Any]]:
        """Return the states that an agent may have that was not stored before.

        A live one that was deleted begins anew with the state that it has.
        """
        speakers = [action for action in actions if agent_id in action.said]
        states = [dict(action.live.agent.state.get()) for action in speakers if action.live is not None]
        is_open = len(actions) > 1 or any(action.was_killed for action in speakers)
        return [*states, {}] if is_open or not states else states

    def _adopt_built(self, writer: Writer) -> None:
        """Take over agents that were built and said nothing yet: the next flush stores them."""
        session = self.sessions.get(writer.session_id)
        for agent_id, live in writer.lives.items():
            if (
                session is not None
                and agent_id not in session.agents
                and self.stored(writer.session_id, agent_id) == []
            ):
                session.agents[agent_id] = AgentReference(states=[live.state])

    def _firsts(
        self, session: SessionReference, before: dict[str, list[Said]], actions: Sequence[Action]
    ) -> list[Said]:
        """Return what may have been the first thing that a person said."""
        found = []
        stored = set(session.everything())
        for action in actions:
            for said in (one for part in action.said.values() for one in part):
                message = {"role": said.role, "content": [{"text": said.shows or ""}]}
                if said in stored and said.shows and title_of(message) is not None:
                    found.append(said)
                    break
        return found

    def look_at(self, live: Live, before: dict[str, list[Said]], actions: Sequence[Action]) -> None:
        """Tell the reference what an agent took out of its window, and what it changed of its state."""
        session_id, agent_id = live.writer.session_id, live.agent_id
        session = self.sessions.get(session_id)
        if session is None or live.writer.is_orphan:
            return
        agent = session.agents.get(agent_id)
        held = self.held_by(session_id, live.agent.messages)
        # What was said and trimmed in one turn, too, unless the agent never held it.
        own = live.action.said.get(agent_id, []) if live.action is not None and not live.action.is_by_hand else []
        gone = [said for said in dict.fromkeys([*live.held, *own]) if said not in held]
        again = [said for said in held if said in live.taken_out]
        state, before_state = dict(live.agent.state.get()), live.state
        killed = live.action is not None and live.action.was_killed
        if agent is None:
            if self.stored(session_id, agent_id) is None:
                return
            agent = session.agents[agent_id] = AgentReference()
        if agent.out is None and (gone or again):
            agent.out = self.out_of(session_id, agent_id)
        elif agent.out is not None and not killed:
            agent.out |= {said for said in gone if said in agent.messages}
            agent.out -= set(again)
        elif agent.out is not None:
            out = self.out_of(session_id, agent_id)
            assert agent.out <= out <= agent.out | set(gone), "a killed turn took out what was not taken out"
            agent.out = out
        live.taken_out |= set(gone)
        live.taken_out -= set(again)
        live.held = held
        if state != live.state:
            beside = killed or len([a for a in actions if a.live is not None and a.live.agent_id == agent_id]) > 1
            agent.states = [*agent.states, state] if beside else [state]
            live.state = state
        if set(held) != set(agent.window if agent.out is not None else held) or len(held) != len(live.agent.messages):
            live.is_alone = False
        if gone or again or state != before_state:
            self.intrude(session_id, agent_id, beside=live)

    def intrude(self, session_id: str, agent_id: str, beside: Live | None = None) -> None:
        """Note for the live agents of an id that another one wrote."""
        for writer in self.writers:
            other = writer.lives.get(agent_id)
            if other is not None and other is not beside and writer.session_id == session_id:
                other.is_alone = False

    def out_of(self, session_id: str, agent_id: str) -> set[Said]:
        """Return what is out of the stored window."""
        document = self.document(session_id)
        assert document is not None
        window = document["agents"][agent_id]["window"]
        found = self.stored(session_id, agent_id) or []
        return {said for number, said in enumerate(found) if not _is_in(number, window)}


def _is_in(number: int, window: Any) -> bool:
    return any(first <= number and (last is None or number <= last) for first, last in window)


def _word_in(text: str) -> str | None:
    found = _WORD.search(text)
    return found and found.group()
