"""A lock that a thread of the parent holds is free in a process that is forked meanwhile: that thread is not there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fixtures.waiting import WAIT_S

FORKED = """
import os, signal, sys, threading
from mongodb_session_manager.client.outages import outages
from mongodb_session_manager.hooks import CachedMetadata

cache = CachedMetadata(60)
lock, use = {
    "cache": (cache._lock, lambda: cache(lambda metadata: None, "update", "s-1", metadata={})),
    "outages": (outages._lock, lambda: outages.began(cache)),
}[sys.argv[1]]
held, forked = threading.Event(), threading.Event()


def hold():
    with lock:
        held.set()
        forked.wait()


threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(40)
    use()
    os._exit(0)
forked.set()
use()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("owner", ["cache", "outages"])
def test_a_lock_is_free_in_a_forked_process(owner: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, owner],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
