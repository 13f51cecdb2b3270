"""The two faces of the API are one: same names, same signatures, and the synchronous one passes every argument on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Set
from functools import partial
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest

import mongodb_session_manager as package
from mongodb_session_manager import (
    AsyncMongoDBConnectionPool,
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    AsyncMongoDBSessionRepository,
    MongoDBConnectionPool,
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
    MongoDBSessionRepository,
)
from mongodb_session_manager.store.lease import Turn

CLASSES: list[tuple[type, type]] = [
    (AsyncMongoDBSessionManager, MongoDBSessionManager),
    (AsyncMongoDBSessionRepository, MongoDBSessionRepository),
    (AsyncMongoDBSessionManagerFactory, MongoDBSessionManagerFactory),
    (AsyncMongoDBConnectionPool, MongoDBConnectionPool),
]
FUNCTIONS = {
    "create_async_mongodb_session_manager": "create_mongodb_session_manager",
    "initialize_async_global_factory": "initialize_global_factory",
    "get_async_global_factory": "get_global_factory",
    "close_async_global_factory": "close_global_factory",
}

# Each face hands out the client of its own driver.
OTHER_RETURN_TYPES = {"AsyncIOMotorClient[Any]": "MongoClient[Any]", "AsyncIterator[Turn]": "Iterator[Turn]"}
# What the synchronous method runs inside the hooks, which it applies itself.
INSIDE_HOOKS = {
    "update_metadata": "_update_metadata",
    "delete_metadata": "_delete_metadata",
    "get_metadata": "_get_metadata",
    "add_feedback": "_add_feedback",
}
# Not one call passed on: `open` returns the face itself, the tool is made for the face, a turn is entered and left.
OWN_METHODS = {"open", "get_metadata_tool", "turn"}


def public_names(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def methods(cls: type, *, without: Set[str] = frozenset()) -> list[str]:
    return sorted(name for name in public_names(cls) - without if inspect.isroutine(getattr(cls, name)))


def method_pairs() -> list[Any]:
    pairs = []
    for async_class, sync_class in CLASSES:
        constructor = ["__init__"] if "__init__" in vars(async_class) else []
        for name in constructor + methods(async_class):
            pairs.append(pytest.param(async_class, sync_class, name, id=f"{sync_class.__name__}.{name}"))
    return pairs


def described(function: Callable[..., Any]) -> tuple[list[tuple[str, Any, Any, str]], str]:
    """Return a signature's parameters and result, without what may differ between the faces."""
    signature = inspect.signature(function)
    parameters = [(p.name, p.kind, p.default, str(p.annotation)) for p in signature.parameters.values()]
    result = str(signature.return_annotation)
    return parameters, OTHER_RETURN_TYPES.get(result, result.replace("AsyncMongoDB", "MongoDB"))


@pytest.mark.parametrize(("async_class", "sync_class"), CLASSES, ids=lambda cls: cls.__name__)
def test_both_faces_of_a_class_have_the_same_public_names(async_class: type, sync_class: type) -> None:
    assert public_names(sync_class) == public_names(async_class)


@pytest.mark.parametrize(("async_class", "sync_class"), CLASSES, ids=lambda cls: cls.__name__)
def test_both_faces_are_context_managers_or_neither_is(async_class: type, sync_class: type) -> None:
    assert hasattr(sync_class, "__enter__") == hasattr(async_class, "__aenter__")
    assert hasattr(sync_class, "__exit__") == hasattr(async_class, "__aexit__")


def test_the_package_exports_both_faces_of_everything() -> None:
    exported = set(package.__all__)
    asynchronous = {name for name in exported if name.startswith("Async") or "_async_" in name}

    expected = {name: FUNCTIONS.get(name, name.removeprefix("Async")) for name in asynchronous}

    assert set(FUNCTIONS) | {a.__name__ for a, _ in CLASSES} == asynchronous
    assert set(expected.values()) <= exported
    assert all(getattr(package, name) is not None for name in exported)


@pytest.mark.parametrize(("async_class", "sync_class", "name"), method_pairs())
def test_both_faces_of_a_method_have_the_same_signature(async_class: type, sync_class: type, name: str) -> None:
    synchronous = getattr(sync_class, name)

    assert described(synchronous) == described(getattr(async_class, name))
    assert not inspect.iscoroutinefunction(synchronous)
    # Its own, and not what it inherits from Strands.
    assert name in vars(sync_class)


@pytest.mark.parametrize(("async_name", "sync_name"), FUNCTIONS.items())
def test_both_faces_of_a_function_have_the_same_signature(async_name: str, sync_name: str) -> None:
    synchronous = getattr(package, sync_name)

    assert described(synchronous) == described(getattr(package, async_name))
    assert not inspect.iscoroutinefunction(synchronous)


# -- every argument is passed on


def one_object_per_parameter(function: Callable[..., Any]) -> tuple[list[object], dict[str, object]]:
    positional: list[object] = []
    named: dict[str, object] = {}
    for parameter in inspect.signature(function).parameters.values():
        match parameter.kind:
            case parameter.POSITIONAL_OR_KEYWORD:
                positional.append(object())
            case parameter.KEYWORD_ONLY:
                named[parameter.name] = object()
            case parameter.VAR_KEYWORD:
                named["an_option"] = object()
            case _:
                raise AssertionError(f"{parameter} is of a kind that the facade does not have")
    return positional, named


def bound(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    """Return every argument by parameter name, those of `**kwargs` under their own."""
    signature = inspect.signature(function)
    arguments = signature.bind(*args, **kwargs)
    arguments.apply_defaults()
    given = dict(arguments.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            given |= given.pop(parameter.name)
    return given


def without_self(cls: type, name: str) -> Callable[..., Any]:
    return partial(getattr(cls, name), None)


def check_passed_on(call: Callable[..., Any], receiver: MagicMock, spec: Callable[..., Any]) -> None:
    """Call with one object per parameter: each must arrive under its own name, and the answer must come back."""
    positional, named = one_object_per_parameter(call)
    answer = receiver.return_value = object()

    result = call(*positional, **named)

    receiver.assert_called_once()
    assert bound(spec, *receiver.call_args) == bound(call, positional, named)
    returns_nothing = str(inspect.signature(spec).return_annotation) == "None"
    assert result is (None if returns_nothing else answer)


@pytest.fixture
def wrapped(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """The async manager that a synchronous one makes."""
    manager: MagicMock = create_autospec(AsyncMongoDBSessionManager, instance=True)
    manager.session_id, manager._flush_on = "s-1", "message"
    manager._metadata_hooks = manager._feedback_hooks = ()

    async def opened() -> MagicMock:
        return manager

    kind = MagicMock(side_effect=lambda *args, **kwargs: opened())
    manager.kind = kind
    monkeypatch.setattr("mongodb_session_manager.sync.manager.WrappedSessionManager", kind)
    return manager


@pytest.mark.parametrize("name", methods(MongoDBSessionManager, without=OWN_METHODS))
def test_manager_passes_every_argument_on(wrapped: MagicMock, name: str) -> None:
    manager = MongoDBSessionManager("s-1")

    receiver = getattr(wrapped, INSIDE_HOOKS.get(name, name))

    check_passed_on(getattr(manager, name), receiver, without_self(AsyncMongoDBSessionManager, name))


def test_manager_passes_the_agents_to_open_on(wrapped: MagicMock) -> None:
    manager, agents = MongoDBSessionManager("s-1"), ["a"]

    assert manager.open(agents) is manager

    wrapped.open.assert_awaited_once_with(agents)


def test_manager_passes_the_arguments_of_a_turn_and_its_error_on(wrapped: MagicMock) -> None:
    manager, turn, error = MongoDBSessionManager("s-1"), Turn(replayed=True), KeyError("in the turn")
    inside = wrapped.turn.return_value = MagicMock()
    inside.__aenter__.return_value, inside.__aexit__.return_value = turn, False
    positional, named = one_object_per_parameter(manager.turn)

    def take_a_turn() -> None:
        with manager.turn(*positional, **named) as entered:  # type: ignore[arg-type]
            assert entered is turn
            raise error

    with pytest.raises(KeyError) as raised:
        take_a_turn()

    assert raised.value is error
    spec = without_self(AsyncMongoDBSessionManager, "turn")
    assert bound(spec, *wrapped.turn.call_args) == bound(manager.turn, positional, named)
    kind, passed, _ = inside.__aexit__.call_args.args
    assert (kind, passed) == (KeyError, error)


def test_manager_passes_its_own_arguments_on(wrapped: MagicMock) -> None:
    positional, named = one_object_per_parameter(MongoDBSessionManager)

    MongoDBSessionManager(*positional, **named)  # type: ignore[arg-type]

    [call] = wrapped.kind.call_args_list
    spec = AsyncMongoDBSessionManager
    assert bound(spec, *call) == bound(MongoDBSessionManager, positional, named)


def test_create_function_passes_every_argument_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = create_autospec(MongoDBSessionManager)
    monkeypatch.setattr("mongodb_session_manager.sync.factory.MongoDBSessionManager", kind)

    check_passed_on(package.create_mongodb_session_manager, kind, package.create_mongodb_session_manager)


@pytest.mark.parametrize("name", methods(MongoDBSessionRepository))
def test_repository_passes_every_argument_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind = create_autospec(AsyncMongoDBSessionRepository)
    monkeypatch.setattr("mongodb_session_manager.sync.repository.AsyncMongoDBSessionRepository", kind)
    repository = MongoDBSessionRepository("mongodb://127.0.0.1:1")

    method = getattr(repository, name)

    check_passed_on(method, getattr(kind.return_value, name), method)


def test_repository_passes_its_own_arguments_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = create_autospec(AsyncMongoDBSessionRepository)
    monkeypatch.setattr("mongodb_session_manager.sync.repository.AsyncMongoDBSessionRepository", kind)
    positional, named = one_object_per_parameter(MongoDBSessionRepository)

    MongoDBSessionRepository(*positional, **named)  # type: ignore[arg-type]

    assert bound(AsyncMongoDBSessionRepository, *kind.call_args) == bound(MongoDBSessionRepository, positional, named)


@pytest.fixture
def async_factory(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """The class of the factory that a synchronous one makes."""
    kind: MagicMock = create_autospec(AsyncMongoDBSessionManagerFactory)
    monkeypatch.setattr("mongodb_session_manager.sync.factory.AsyncMongoDBSessionManagerFactory", kind)
    return kind


@pytest.mark.parametrize("name", methods(MongoDBSessionManagerFactory, without={"create_session_manager"}))
def test_factory_passes_every_argument_on(async_factory: MagicMock, name: str) -> None:
    method = getattr(MongoDBSessionManagerFactory(), name)

    check_passed_on(method, getattr(async_factory.return_value, name), method)


def test_factory_passes_its_own_arguments_on(async_factory: MagicMock) -> None:
    positional, named = one_object_per_parameter(MongoDBSessionManagerFactory)

    MongoDBSessionManagerFactory(*positional, **named)  # type: ignore[arg-type]

    spec = AsyncMongoDBSessionManagerFactory
    assert bound(spec, *async_factory.call_args) == bound(MongoDBSessionManagerFactory, positional, named)


def test_factory_passes_the_arguments_of_a_manager_on(async_factory: MagicMock, wrapped: MagicMock) -> None:
    def create(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, MagicMock]:
        return wrapped.kind()  # type: ignore[no-any-return]

    receiver = async_factory.return_value._create
    receiver.side_effect = create
    factory = MongoDBSessionManagerFactory()
    positional, named = one_object_per_parameter(factory.create_session_manager)

    manager = factory.create_session_manager(*positional, **named)  # type: ignore[arg-type]

    assert manager.session_id == "s-1"
    [(_, *received), options] = receiver.call_args
    spec = without_self(AsyncMongoDBSessionManagerFactory, "create_session_manager")
    assert bound(spec, received, options) == bound(factory.create_session_manager, positional, named)


def test_global_factory_passes_every_argument_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = create_autospec(MongoDBSessionManagerFactory)
    monkeypatch.setattr("mongodb_session_manager.sync.factory.MongoDBSessionManagerFactory", kind)
    initialize = package.initialize_global_factory
    positional, named = one_object_per_parameter(initialize)

    factory = initialize(*positional, **named)  # type: ignore[arg-type]

    assert bound(MongoDBSessionManagerFactory, *kind.call_args).items() >= bound(initialize, positional, named).items()
    made = kind.return_value
    assert factory is made
    assert package.get_global_factory() is made
    package.close_global_factory()
    kind.return_value.close.assert_called_once_with()


@pytest.mark.parametrize("name", methods(MongoDBConnectionPool))
def test_pool_passes_every_argument_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pool = create_autospec(AsyncMongoDBConnectionPool)
    monkeypatch.setattr("mongodb_session_manager.sync.pool.AsyncMongoDBConnectionPool", pool)
    method, receiver = getattr(MongoDBConnectionPool, name), getattr(pool, name)
    positional, named = one_object_per_parameter(method)
    answer = receiver.return_value = MagicMock()

    result = method(*positional, **named)

    receiver.assert_called_once_with(*positional, **named)
    expected = {"initialize": answer.delegate, "get_client": answer.delegate, "get_pool_stats": answer, "close": None}
    assert result is expected[name]
