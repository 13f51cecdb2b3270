"""What a writer reads of a session first; a document of a newer schema is refused before anything else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongodb_session_manager import SessionStoreError
from mongodb_session_manager.schema.sessions import SCHEMA_VERSION, new_session, version_of
from mongodb_session_manager.store.head import HEAD_PROJECTION, SessionHead
from mongodb_session_manager.store.loaded import StoredSession

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def document(**fields: Any) -> dict[str, Any]:
    return {**new_session("s-1", NOW, ttl_s=60), **fields}


@pytest.mark.parametrize("read", [SessionHead.read, StoredSession.from_document, version_of])
@given(st.integers(SCHEMA_VERSION + 1, 2**62))
def test_a_newer_version_is_refused_by_an_error_that_names_both(read: Any, version: int) -> None:
    with pytest.raises(SessionStoreError) as raised:
        read(document(schema_version=version, metadata={"secret": "swordfish"}))
    for part in ("'s-1'", f"version {version}", f"knows {SCHEMA_VERSION} at most"):
        assert part in str(raised.value)
    assert "swordfish" not in str(raised.value)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_known_version_is_read(version: int) -> None:
    head = SessionHead.read(document(schema_version=version))
    assert head.version == version
    assert head.is_current is (version == SCHEMA_VERSION)


@pytest.mark.parametrize("version", [None, "2", 2.0, True, [], {}])
def test_what_is_no_version_is_another_tools_document(version: Any) -> None:
    head = SessionHead.read(document(schema_version=version))
    assert head.version == 0
    assert head.incarnation is None
    assert not head.is_current


@pytest.mark.parametrize("incarnation", [None, 7, {}])
def test_a_known_version_without_an_incarnation_is_another_tools(incarnation: Any) -> None:
    assert SessionHead.read(document(schema_version=SCHEMA_VERSION, incarnation=incarnation)).version == 0


@pytest.mark.parametrize("incarnation", [None, 7, {}, "i"])
def test_a_newer_version_is_refused_whatever_else_the_document_has(incarnation: Any) -> None:
    with pytest.raises(SessionStoreError, match=f"in schema version 99, .* knows {SCHEMA_VERSION} at most"):
        SessionHead.read(document(schema_version=99, incarnation=incarnation))


def test_a_projection_is_all_that_a_head_needs() -> None:
    title = {"title": "t", "title_of": {"agent": "a", "message_id": 3}}
    extent = {"revision": 7, "live_bytes": 9, "children_expire_at": NOW}
    flags = {"has_children": True, "has_payloads": True, "has_storage": True}
    whole = document(**title, **extent, **flags)
    projected = {name: value for name, value in whole.items() if name == "_id" or name in HEAD_PROJECTION}
    head = SessionHead.read(projected)
    assert head == SessionHead.read(whole)
    assert (head.revision, head.live_bytes, head.ttl_s, head.related_expire_at) == (7, 9, 60, NOW)
    assert head.has_related and head.has_payloads and head.has_storage and head.has_title  # noqa: PT018
    assert head.title_of == ("a", 3)


odd = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | st.just({"a": 1})


@given(st.dictionaries(st.sampled_from(sorted(HEAD_PROJECTION)), odd), odd)
def test_a_document_of_another_tool_is_read_whatever_its_fields_hold(fields: dict[str, Any], other: Any) -> None:
    fields.pop("schema_version", None)
    head = SessionHead.read({"_id": "s-1", **fields})
    assert head.version == 0
