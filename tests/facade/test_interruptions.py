"""The synchronous classes when their program is interrupted, forks, or exits with managers that are still open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mongodb_session_manager import MongoDBSessionManager
from mongodb_session_manager.runtime import portal
from mongodb_session_manager.sync import turn as blocking_turn
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Sessions
from tests.fixtures.waiting import WAIT_S

ROOT = Path(__file__).parents[2]
HOUR_S = 3600


def opened(sessions: Sessions) -> MongoDBSessionManager:
    return MongoDBSessionManager(
        SESSION_ID, sessions.uri, sessions.database_name, COLLECTION, ensure_indexes=False, **sessions.client_options()
    )


class _Portal(SimpleNamespace):
    """Calls the real one; one of the calls is interrupted, before it is made or when it is over."""

    def __init__(self, number: int, when: str) -> None:
        super().__init__(left=number, when=when)

    def call(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left == 0 and self.when == "before":
            raise KeyboardInterrupt
        result = portal.call(*arguments)
        if self.left == 0:
            raise KeyboardInterrupt
        return result


@pytest.mark.parametrize("key", [None, "request-1"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2], ids=["taking", "giving back"])
def test_an_interruption_at_any_moment_leaves_no_turn_behind(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, number: int, when: str, key: str | None
) -> None:
    with opened(sessions) as manager, opened(sessions) as other:
        monkeypatch.setattr(blocking_turn, "portal", _Portal(number, when))
        with pytest.raises(KeyboardInterrupt) as raised, manager.turn(lease_s=HOUR_S, idempotency_key=key):
            pass
        # While the error is still referenced, and with it all that the frames of its traceback hold.
        monkeypatch.setattr(blocking_turn, "portal", portal)
        for one in (other, manager):
            with one.turn(wait_s=WAIT_S, lease_s=HOUR_S):
                pass
        assert raised.value is not None


@pytest.mark.thorough
def test_an_alarm_at_any_moment_leaves_no_turn_behind(sessions: Sessions) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    former = signal.signal(signal.SIGALRM, ring)
    try:
        with opened(sessions) as manager, opened(sessions) as other:
            for number in range(60):
                kept: list[Alarm] = []
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 * number + 0.0001)
                    with manager.turn(lease_s=HOUR_S):
                        pass
                    threading.Event().wait(0.1)  # until it rings
                except Alarm as error:
                    kept.append(error)
                for one in (other, manager):
                    with one.turn(wait_s=WAIT_S, lease_s=HOUR_S):
                        pass
                assert len(kept) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


PROGRAM = """
import atexit, os, sys
from mongodb_session_manager import *
from mongodb_session_manager.offline import OfflineModel
from strands import Agent

def talk(manager):
    agent = Agent(model=OfflineModel(), agent_id="assistant", session_manager=manager, callback_handler=None)
    agent("Hello")
    return agent

uri, database, collection, session_id = sys.argv[1:]
initialize_global_factory(uri, database, collection, ensure_indexes=False)
manager = get_global_factory().create_session_manager(session_id)
"""

EXITS = {
    "closed by atexit": "agent = talk(manager); agent.state.set('kept', 1); atexit.register(manager.close)",
    "with the factory": "atexit.register(close_global_factory); agent = talk(manager); agent.state.set('kept', 1)",
    "never closed": "agent = talk(manager); agent.state.set('kept', 1)",
    "sys.exit in a turn": """
with manager.turn(lease_s=3600):
    agent = talk(manager)
    agent.state.set('kept', 1)
    sys.exit()
""",
}


def run(sessions: Sessions, program: str) -> subprocess.CompletedProcess[str]:
    # Python 3.12 and later warn of a fork in a process with threads, which the library's are.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + program]
    command += [sessions.uri, sessions.database_name, COLLECTION, SESSION_ID]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False)


@pytest.mark.matrix
@pytest.mark.parametrize("how", EXITS)
def test_what_is_pending_at_exit_is_written_and_nothing_complains(sessions: Sessions, how: str) -> None:
    ended = run(sessions, EXITS[how])

    assert (ended.returncode, ended.stderr) == (0, "")
    document = sessions.document()
    assert document["agents"]["assistant"]["agent_data"]["state"] == {"kept": 1}
    assert "lease" not in document


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_is_forked_in_a_turn_does_not_give_its_parents_turn_back(sessions: Sessions) -> None:
    program = """
with manager.turn(lease_s=3600):
    agent = talk(manager)
    child = os.fork()
    if child == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    agent("Hello again")
manager.close()
"""
    ended = run(sessions, program)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert sessions.texts()[::2] == ["Hello", "Hello again"]
    assert "lease" not in sessions.document()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_holds_its_parents_turn_at_exit_ends(sessions: Sessions) -> None:
    program = """
held = manager.turn(lease_s=3600)
held.__enter__()
agent = talk(manager)
child = os.fork()
if child == 0:
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
agent("Hello again")
held.__exit__(None, None, None)
manager.close()
"""
    ended = run(sessions, program)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert sessions.texts()[::2] == ["Hello", "Hello again"]
    assert "lease" not in sessions.document()
