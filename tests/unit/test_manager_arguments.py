from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pymongo.common import VALIDATORS

from mongodb_session_manager import AsyncMongoDBSessionManager, InvalidNameError
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


def test_no_option_of_the_driver_is_taken_for_a_misspelt_argument() -> None:
    _check_spelling([*VALIDATORS, "maxPoolSize", "serverSelectionTimeoutMS", "document_class", "event_listeners"])


@pytest.mark.parametrize("session_id", ["", None, 7, b"s", {"$gt": ""}, ["s"]])
def test_a_session_id_is_a_text_that_is_not_empty(session_id: Any) -> None:
    with pytest.raises(InvalidNameError):
        AsyncMongoDBSessionManager(session_id, URI)
