"""Threads that are none are refused before something hangs on them; the real gevent is among the tests of clients."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionManagerFactory
from mongodb_session_manager.green_threads import check_threads


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **functions: object) -> None:
    module = ModuleType(name)
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, name, module)


def test_python_s_own_threads_are_right() -> None:
    check_threads()


@pytest.mark.parametrize("replaced", ["_thread", "socket", "select", "queue"])
def test_gevent_s_are_refused(replaced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "gevent.monkey", is_object_patched=lambda module, name: module == replaced)

    with pytest.raises(RuntimeError, match=rf"gevent\.monkey has replaced {replaced.lstrip('_')} .*`-k gthread`"):
        AsyncMongoDBSessionManager("s-1", "mongodb://localhost:27017/")


def test_eventlet_s_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "eventlet.patcher", is_monkey_patched=lambda module: module == "thread")

    with pytest.raises(RuntimeError, match=r"eventlet has replaced threading .*`eventlet\.tpool\.execute`"):
        AsyncMongoDBSessionManagerFactory("mongodb://localhost:27017/")


def test_what_was_imported_and_replaced_nothing_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "gevent.monkey", is_object_patched=lambda module, name: False)
    stand_in(monkeypatch, "eventlet.patcher", is_monkey_patched=lambda module: False)

    check_threads()


async def test_a_factory_that_was_made_before_refuses_managers_after(monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncMongoDBSessionManagerFactory("mongodb://localhost:27017/", ensure_indexes=False) as factory:
        with monkeypatch.context() as patched:
            stand_in(patched, "gevent.monkey", is_object_patched=lambda module, name: True)
            with pytest.raises(RuntimeError, match=r"gevent\.monkey has replaced thread, socket, select, queue"):
                factory.create_session_manager("s-1")
