from __future__ import annotations

from typing import Any

import pymongo
import pytest
from pymongo.errors import ConfigurationError, PyMongoError
from pymongo.monitoring import ServerHeartbeatListener

from mongodb_session_manager.client import ClientHandle
from mongodb_session_manager.client.options import POOL_DEFAULTS, comparable, with_defaults

URI = "mongodb://127.0.0.1:1"


class Heartbeats(ServerHeartbeatListener):
    """Listens to nothing."""


def in_force(connection_string: str = URI, **options: Any) -> dict[str, Any]:
    given = with_defaults(connection_string, options)
    del given["connect"]
    return given


def test_defaults_apply_when_nothing_is_given() -> None:
    assert in_force() == dict(POOL_DEFAULTS)


@pytest.mark.parametrize("name", ["maxIdleTimeMS", "maxidletimems", "MAXIDLETIMEMS"])
def test_option_of_the_caller_replaces_the_default(name: str) -> None:
    options = in_force(URI, **{name: 1})

    assert [value for key, value in options.items() if key.lower() == "maxidletimems"] == [1]


@pytest.mark.parametrize("query", ["maxidletimems=1", "w=1&maxIdleTimeMS=1", "w=1;MaxIdleTimeMS=1"])
def test_option_of_the_connection_string_replaces_the_default(query: str) -> None:
    options = in_force(f"mongodb://user:p%3Fw@host/db?{query}")

    assert "maxIdleTimeMS" not in options
    assert options["maxPoolSize"] == 100


@pytest.mark.parametrize(
    ("connection_string", "options", "expected"),
    [
        (URI, {"maxPoolSize": 3}, 3),
        (URI, {"MAXPOOLSIZE": 3}, 3),
        (f"{URI}/?maxPoolSize=3", {}, 3),
        (URI, {"maxPoolSize": 50}, 10),
        (URI, {"maxPoolSize": 0}, 10),
        (f"{URI}/?maxPoolSize=2", {"maxPoolSize": 20}, 10),
        (URI, {"maxPoolSize": 20, "minPoolSize": 12}, 12),
    ],
)
def test_default_minimum_is_never_above_the_maximum(
    connection_string: str, options: dict[str, Any], expected: int
) -> None:
    assert in_force(connection_string, **options)["minPoolSize"] == expected


def test_minimum_of_the_connection_string_stays() -> None:
    assert "minPoolSize" not in in_force(f"{URI}/?minPoolSize=4", maxPoolSize=2)


def test_clients_connect_lazily_whatever_is_asked() -> None:
    assert with_defaults(URI, {"Connect": True})["connect"] is False


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1),
        ("a", "a"),
        ([1, 2], (1, 2)),
        ({"a": [1]}, {"a": [1]}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_equal_option_values_compare_equal(one: object, other: object) -> None:
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, "1"), (set(), set()), ([set()], [set()])])
def test_values_of_another_type_or_identity_differ(one: object, other: object) -> None:
    assert comparable(one) != comparable(other)


async def test_unknown_option_is_the_drivers_error() -> None:
    with pytest.raises(ConfigurationError, match="maxPolSize"):
        ClientHandle(URI, options={"maxPolSize": 3})


@pytest.mark.parametrize(
    ("connection_string", "options"),
    [
        ("mongodb://user:s3cret/word@host", {}),
        ("mongodb://user:s3cret@word@host", {}),
        ("mongodb://user:s3cret:word@host", {}),
        ("mongodb://user:8s3cret?word@host", {}),
        ("mongodb://user:s3cret%word@host:port", {}),
        ("mongodb://user:s3cret@host:1x", {}),
        ("mongodb://user@host", {"password": 3}),
        ("mongodb://host", {"username": "user", "password": "s3cret", "authMechanism": "s3cret"}),
        ("mongodb://host", {"tlsCertificateKeyFilePassword": ["s3cret"]}),
        ("user:s3cret@host", {}),
        ("mongodb://user:s3cret@host", {"maxPoolSize": "many"}),
    ],
)
async def test_errors_quote_no_credentials(connection_string: str, options: dict[str, Any]) -> None:
    with pytest.raises((PyMongoError, ValueError, TypeError)) as raised:
        ClientHandle(connection_string, options=options)

    error: BaseException | None = raised.value
    while error is not None:
        assert "s3cret" not in str(error)
        assert connection_string not in str(error)
        error = error.__cause__ or error.__context__


async def test_error_that_had_to_be_withheld_names_the_options() -> None:
    with pytest.raises(ConfigurationError, match="maxPolSize"):
        ClientHandle("mongodb://user:Unknown@host", options={"maxPolSize": 1})


async def test_equal_arguments_share_one_client() -> None:
    listener = Heartbeats()

    one = ClientHandle(URI, options={"maxPoolSize": 5, "event_listeners": [listener]})
    same = ClientHandle(URI, options={"event_listeners": [listener], "MAXPOOLSIZE": 5})
    other_listener = ClientHandle(URI, options={"maxPoolSize": 5, "event_listeners": [Heartbeats()]})
    other_option = ClientHandle(URI, options={"maxPoolSize": 6, "event_listeners": [listener]})

    assert one.client is same.client
    assert one.identity == same.identity
    assert len({id(handle.client) for handle in (one, other_listener, other_option)}) == 3
    for handle in (one, same, other_listener, other_option):
        await handle.aclose()


async def test_no_client_and_no_connection_string_names_the_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGODB_CONNECTION_STRING", raising=False)

    with pytest.raises(ValueError, match=r"connection_string.*client=.*MONGODB_CONNECTION_STRING"):
        ClientHandle()


async def test_connection_string_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_CONNECTION_STRING", f"{URI}/?maxPoolSize=7")

    handle = ClientHandle()

    assert handle.pool_config()["maxPoolSize"] == 7
    await handle.aclose()


async def test_connection_string_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        ClientHandle(3)  # type: ignore[arg-type]


def test_other_kind_of_client_is_refused_with_its_type() -> None:
    with pytest.raises(TypeError, match=r"not dict$"):
        ClientHandle(client={})


def test_options_for_a_borrowed_client_are_refused_by_name() -> None:
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(URI, connect=False)

    with pytest.raises(ValueError, match=r"\['maxPoolSize', 'w'\]"):
        ClientHandle(client=client, options={"w": 1, "maxPoolSize": 3})

    client.close()


async def test_unacknowledged_writes_are_seen() -> None:
    careless = ClientHandle(f"{URI}/?w=0")
    careful = ClientHandle(URI)

    assert (careless.acknowledges_writes, careful.acknowledges_writes) == (False, True)
    await careless.aclose()
    await careful.aclose()


async def test_repr_shows_no_address_and_no_credentials() -> None:
    handle = ClientHandle("mongodb://user:s3cret@some.host:1")

    assert repr(handle) == "<ClientHandle leased AnyLoopMotorClient>"
    await handle.aclose()
    assert repr(handle) == "<ClientHandle leased AnyLoopMotorClient closed>"
