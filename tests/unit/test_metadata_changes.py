"""What the AWS hooks tell of a change of metadata."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mongodb_session_manager.hooks.metadata_changes import change_message


@pytest.mark.parametrize(("action", "value"), [("update", {"topic": "tea"}), ("delete", ["topic"])])
def test_an_update_and_a_deletion_are_told_as_such(action: str, value: Any) -> None:
    message = change_message(action, "s-1", value, None)

    assert message is not None
    told = json.loads(message)
    assert (told["operation"], told["metadata"]) == (action, {"topic": "tea" if action == "update" else None})


@pytest.mark.parametrize("action", ["get", "increment", "rename", "UPDATE", ""])
@pytest.mark.parametrize("value", [{"topic": 1}, ["topic"], []])
def test_another_action_is_never_told_as_a_deletion(action: str, value: Any) -> None:
    assert change_message(action, "s-1", value, None) is None
