from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pymongo.common import VALIDATORS

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    InvalidNameError,
    MongoDBSessionManagerFactory,
)
from mongodb_session_manager.factory import check_defaults
from mongodb_session_manager.fastapi import Sessions
from mongodb_session_manager.session.manager import _check_spelling

URI = "mongodb://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"flush_on": "turn"}, ValueError, "'turn'"),
        ({"ttl": 0}, ValueError, "0"),
        ({"ttl": timedelta(seconds=-1)}, ValueError, "day"),
        ({"ttl": "1h"}, TypeError, "str"),
        ({"ttl": True}, TypeError, "bool"),
        ({"metadata_fields": "priority"}, TypeError, "priority"),
        ({"metadata_fields": 3}, TypeError, "invalid metadata_fields: it must be a list of fields, not int"),
        ({"metadata_fields": ["a..b"]}, InvalidNameError, "'a..b'"),
        ({"metadata_hook": "audit"}, TypeError, "str"),
        ({"client": object()}, TypeError, "object"),
        ({"databse_name": "shop"}, TypeError, "'databse_name'; did you mean 'database_name'"),
        ({"connection_string": None, "conection_string": URI}, TypeError, "did you mean 'connection_string'"),
        ({"connection_string": None}, ValueError, "MONGODB_CONNECTION_STRING"),
    ],
)
def test_a_bad_argument_is_refused_with_its_value_and_the_rule(
    arguments: dict[str, Any], error: type[Exception], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONGODB_CONNECTION_STRING", raising=False)

    with pytest.raises(error, match=named):
        AsyncMongoDBSessionManager("s", **{"connection_string": URI, **arguments})


REFUSED_EVERYWHERE = [
    ({"flush_on": "turn"}, ValueError, "'turn'"),
    ({"ttl": 0}, ValueError, "0"),
    ({"ttl": "1h"}, TypeError, "str"),
    ({"write_deadline_s": -1}, ValueError, "-1"),
    ({"write_deadline_s": "30"}, TypeError, "str"),
    ({"metadata_fields": "priority"}, TypeError, "priority"),
    ({"metadata_fields": 3}, TypeError, "invalid metadata_fields: it must be a list of fields, not int"),
    ({"metadata_fields": ["a..b"]}, InvalidNameError, "'a..b'"),
    ({"metadata_hook": "audit"}, TypeError, "str"),
    ({"feedback_hook": 3}, TypeError, "int"),
    ({"application_name": 3}, InvalidNameError, "invalid application name: it must be a string, got 3"),
    ({"application_name": {"$gt": ""}}, InvalidNameError, "application name"),
    ({"application_name": "\ud800"}, InvalidNameError, "UTF-8"),
    ({"ensure_indexs": False}, TypeError, "'ensure_indexs'; did you mean 'ensure_indexes'"),
]
MAKERS: dict[str, Callable[..., Any]] = {
    "manager": lambda **options: AsyncMongoDBSessionManager("s", URI, **options),
    "factory": lambda **options: AsyncMongoDBSessionManagerFactory(URI, **options),
    "sync factory": lambda **options: MongoDBSessionManagerFactory(URI, **options),
    "fastapi": lambda **options: Sessions(URI, **options),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(("arguments", "error", "named"), REFUSED_EVERYWHERE)
def test_a_mistake_is_told_where_it_is_made_and_not_by_the_first_request(
    maker: str, arguments: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        MAKERS[maker](database_name="a", collection_name="b", **arguments)


@pytest.mark.parametrize("maker", ["factory", "fastapi"])
def test_an_argument_of_managers_alone_is_told_where_it_belongs(maker: str) -> None:
    with pytest.raises(TypeError, match=r"'skip_corrupt_messages': .* create_session_manager\(\)"):
        MAKERS[maker](skip_corrupt_messages=True)


def test_former_names_are_taken_by_all() -> None:
    for maker in MAKERS.values():
        with pytest.warns(DeprecationWarning, match="metadata_hook"):
            maker(database_name="a", collection_name="b", metadataHook=print, serverSelectionTimeoutMS=1, lazy=True)


def test_no_option_of_the_driver_is_taken_for_a_misspelt_argument() -> None:
    options = [*VALIDATORS, "maxPoolSize", "serverSelectionTimeoutMS", "document_class", "event_listeners"]

    _check_spelling(options)
    check_defaults(dict.fromkeys(options))


@pytest.mark.parametrize("session_id", ["", None, 7, b"s", {"$gt": ""}, ["s"]])
def test_a_session_id_is_a_text_that_is_not_empty(session_id: Any) -> None:
    with pytest.raises(InvalidNameError):
        AsyncMongoDBSessionManager(session_id, URI)
