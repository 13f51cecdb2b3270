"""A database or collection that MongoDB would refuse is refused where it is named, by everything that takes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import InvalidName, PyMongoError

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    AsyncMongoDBSessionRepository,
    InvalidNameError,
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
    MongoDBSessionRepository,
    MongoDBStorage,
)
from mongodb_session_manager.fastapi import Sessions
from mongodb_session_manager.migrate import MessageDocumentSource, OlderDocumentSource
from mongodb_session_manager.schema.names import check_place

URI = "mongodb://127.0.0.1:1/"
PLACES: dict[str, Callable[..., Any]] = {
    "async manager": lambda **names: AsyncMongoDBSessionManager("s-1", URI, **names),
    "sync manager": lambda **names: MongoDBSessionManager("s-1", URI, **names),
    "async factory": lambda **names: AsyncMongoDBSessionManagerFactory(URI, **names),
    "sync factory": lambda **names: MongoDBSessionManagerFactory(URI, **names),
    "async repository": lambda **names: AsyncMongoDBSessionRepository(URI, **names),
    "sync repository": lambda **names: MongoDBSessionRepository(URI, **names),
    "storage": lambda **names: MongoDBStorage(URI, **names),
    "fastapi": lambda **names: Sessions(URI, **names),
    "older documents": lambda **names: OlderDocumentSource(URI, **names),
    "message documents": lambda **names: MessageDocumentSource(URI, **names),
}
DATABASES = ["", "my app", "my.app", "a/b", "a\\b", 'a"b', "a$b", "a\x00b"]
COLLECTIONS = ["", "a$b", "a\x00b", ".a", "a.", "a..b"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("wrong", [None, 7, "", "a$b"])
@pytest.mark.parametrize("argument", ["database_name", "collection_name"])
def test_a_wrong_name_is_refused_where_it_is_given(place: str, argument: str, wrong: Any) -> None:
    with pytest.raises(InvalidNameError, match=rf"^invalid {argument}: it must .*, got ") as error:
        PLACES[place](**{"database_name": "my_app", "collection_name": "sessions", argument: wrong})

    assert isinstance(error.value, PyMongoError)  # as it was when the driver raised it


@pytest.mark.parametrize(
    "names", [*((name, "sessions") for name in DATABASES), *(("my_app", name) for name in COLLECTIONS)], ids=repr
)
def test_what_the_driver_refuses_is_refused_before(names: tuple[str, str]) -> None:
    with MongoClient[Any](URI, connect=False) as client, pytest.raises(InvalidName):
        client[names[0]][names[1]]
    with pytest.raises(InvalidNameError):
        check_place(*names)


@pytest.mark.parametrize("names", [("my_app", "sessions"), ("a" * 63, "a.b-c d/é"), ("Ä", "_")], ids=repr)
def test_what_the_driver_takes_is_taken(names: tuple[str, str]) -> None:
    with MongoClient[Any](URI, connect=False) as client:
        client[names[0]][names[1]]
    check_place(*names)


def test_a_name_that_only_the_server_would_refuse_is_refused_too() -> None:
    long, odd = (("a" * 64, "sessions"), ("é" * 32, "sessions")), (("a\ud800", "b"), ("a", "b\udfff"))
    for names in (*long, *odd, ("my_app", "system.sessions")):
        with pytest.raises(InvalidNameError):
            check_place(*names)
