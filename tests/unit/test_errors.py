"""What callers may do with the library's errors, beside catching them."""

import concurrent.futures
import copy
import multiprocessing
import pickle
from collections.abc import Callable

import pytest

import mongodb_session_manager
from mongodb_session_manager import (
    AgentExistsError,
    AgentNotFoundError,
    CorruptMessageError,
    CorruptSessionError,
    InvalidNameError,
    LeaseLostError,
    LeaseUnavailableError,
    MessageNotFoundError,
    MessageTooLargeError,
    MetadataTooLargeError,
    SessionClosedError,
    SessionExistsError,
    SessionFullError,
    SessionNotFoundError,
    SessionNotOpenError,
    SessionStoreError,
    StorageConflictError,
    WrongLoopError,
)
from mongodb_session_manager.embedded import EmbeddedMongoError, MongodNotFoundError, MongodStartError
from mongodb_session_manager.schema.names import InvalidPlaceNameError
from mongodb_session_manager.testing import HistoryRefusedError

ERRORS: list[Exception] = [
    AgentExistsError("s", "a"),
    AgentNotFoundError("s", "a"),
    CorruptMessageError("a", 3, "it has no role"),
    CorruptSessionError("s", "applied"),
    InvalidNameError("session id", "", "it must not be empty"),
    InvalidPlaceNameError("database_name", "a b", "it must not hold ' '"),
    LeaseLostError("the turn was lost"),
    LeaseUnavailableError("another holder has the turn"),
    MessageNotFoundError("s", "a", 3),
    MessageTooLargeError("a", 5, 3),
    MetadataTooLargeError("s", "an update", 5, 3),
    SessionClosedError("s"),
    SessionExistsError("s"),
    SessionFullError("s", None, 3),
    SessionNotFoundError("s"),
    SessionNotOpenError("s", "building an agent"),
    SessionStoreError("text"),
    StorageConflictError("k", 1, None),
    WrongLoopError(),
    EmbeddedMongoError("text"),
    MongodNotFoundError("text"),
    MongodStartError("text"),
    HistoryRefusedError("text"),
]
each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


def test_each_error_of_the_package_is_among_them() -> None:
    exported = {getattr(mongodb_session_manager, name) for name in mongodb_session_manager.__all__}
    errors = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, BaseException)}

    assert errors <= {type(error) for error in ERRORS}


@each_error
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copy_says_and_holds_the_same(error: Exception, copied: Callable[[Exception], Exception]) -> None:
    error.add_note("what to try")

    made = copied(error)

    assert type(made) is type(error)
    assert (str(made), repr(made), made.args) == (str(error), repr(error), error.args)
    assert vars(made) == vars(error)


def _refuse() -> None:
    raise AgentNotFoundError("s", "a")


def test_a_process_pool_carries_an_error_to_who_waits() -> None:
    spawned = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawned) as pool, pytest.raises(AgentNotFoundError) as e:
        pool.submit(_refuse).result()

    assert (e.value.session_id, e.value.agent_id) == ("s", "a")
