"""The hooks that come with the library, on both kinds of manager."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import UserDict
from collections.abc import Awaitable, Callable
from types import MappingProxyType, SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    InvalidNameError,
    MongoDBSessionManager,
    SessionClosedError,
    SessionNotFoundError,
    chain_hooks,
)
from mongodb_session_manager.hooks import CachedMetadata, Hook, audit_hook, cache, redact_fields, validate_metadata
from tests.contract.conftest import SYNC
from tests.contract.drivers import Driver
from tests.support.hooks import passed_on

on_both_faces = pytest.mark.parametrize(
    "driver", [pytest.param(name, marks=pytest.mark.server) for name in ("uri", SYNC)], indirect=True
)
pytestmark = on_both_faces


class Inner:
    """A hook, plain or async, and what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    @property
    def actions(self) -> list[str]:
        return [action for action, _ in self.calls]

    def plain(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        self.calls.append((action, kwargs))
        return passed_on(original_func, kwargs)

    async def awaited(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        self.calls.append((action, kwargs))
        return await passed_on(original_func, kwargs)


# -- what callers give


HOOKS: dict[str, Callable[[], Hook]] = {
    "plain": lambda: Inner().plain,
    "async": lambda: Inner().awaited,
    "audit": lambda: audit_hook(logging.getLogger("audit")),
    "cache": lambda: CachedMetadata(60),
    "validation": lambda: validate_metadata(lambda metadata: None),
    "chain": lambda: chain_hooks(Inner().plain, Inner().awaited, Inner().plain),
}


@pytest.mark.parametrize("hook", HOOKS)
async def test_keys_are_taken_and_refused_as_without_a_hook(driver: Driver, hook: str) -> None:
    async with driver.manager() as bare, driver.manager(metadata_hook=HOOKS[hook]()) as hooked:
        for make in (list, tuple, set, frozenset, dict.fromkeys, lambda keys: dict.fromkeys(keys).keys()):
            await bare.update_metadata({"a": 1, "b": 1, "c": 1})
            keys: Any = make(["a", "b"])
            errors = [await error_of(manager.delete_metadata(keys)) for manager in (bare, hooked)]
            assert errors[0] == errors[1]
            left = (await bare.get_metadata())["metadata"].keys()
            assert left == ({"c"} if errors[0] is None else {"a", "b", "c"})


@pytest.mark.parametrize("hook", HOOKS)
async def test_what_is_no_list_and_no_dict_is_the_same_error_as_without_a_hook(driver: Driver, hook: str) -> None:
    given: list[Any] = [None, "text", 5, iter(["a"]), threading.Lock(), MappingProxyType({"a": 1}), {"a": 1}.values()]
    async with driver.manager() as bare, driver.manager(metadata_hook=HOOKS[hook]()) as hooked:
        for value in given:
            for operation in ("update_metadata", "delete_metadata"):
                errors = [await error_of(getattr(manager, operation)(value)) for manager in (bare, hooked)]
                assert errors[0] == errors[1]
                assert errors[0] is not None
                assert errors[0][0] is TypeError


async def test_feedback_may_be_any_mapping(driver: Driver) -> None:
    given = [{"n": 1}, MappingProxyType({"n": 2}), UserDict({"n": 3})]

    def add(original_func: Callable[..., Any], action: str, session_id: str, feedback: Any) -> Any:
        if not isinstance(feedback, MappingProxyType):
            feedback["seen"] = True
        return original_func(feedback)

    async with driver.manager(feedback_hook=add) as manager:
        for feedback in given:
            await manager.add_feedback(feedback)
        stored = await manager.get_feedbacks()

    assert [feedback["n"] for feedback in stored] == [1, 2, 3]
    assert [feedback.get("seen") for feedback in stored] == [True, None, True]
    assert [dict(feedback) for feedback in given] == [{"n": 1}, {"n": 2}, {"n": 3}], "callers keep what they gave"


async def error_of(call: Awaitable[Any]) -> tuple[type[Exception], str] | None:
    try:
        await call
    except Exception as error:
        return type(error), str(error)
    return None


# -- audit_hook


async def test_audit_logs_each_operation_with_names_and_without_values(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    audit = audit_hook(logging.getLogger("audit"), level=logging.DEBUG)
    async with driver.manager(metadata_hook=audit, feedback_hook=[audit]) as manager:
        with caplog.at_level(logging.DEBUG, "audit"):
            await manager.update_metadata({"priority": "s3cret", "customer.tier\n": "s3cret"})
            await manager.get_metadata()
            await manager.delete_metadata(["priority"])
            await manager.add_feedback({"rating": "up", "comment": "s3cret"})

    lines = [record.getMessage() for record in caplog.records if record.name == "audit"]
    assert [line.partition(", ms=")[0] for line in lines] == [
        'session_id=<\'s-1\'>, action=<update>, fields=<["priority", "customer.tier\\n"]>, outcome=<done>',
        "session_id=<'s-1'>, action=<get>, fields=<[]>, outcome=<done>",
        "session_id=<'s-1'>, action=<delete>, fields=<[\"priority\"]>, outcome=<done>",
        'session_id=<\'s-1\'>, action=<add>, fields=<["rating", "comment"]>, outcome=<done>',
    ]
    assert all(line.endswith("> | audited") for line in lines)
    assert "s3cret" not in caplog.text


async def test_audit_logs_what_failed_as_a_warning_and_lets_it_fail(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        raise PermissionError("s3cret")

    hook = chain_hooks(audit_hook(logging.getLogger("audit")), refuse)
    async with driver.manager(metadata_hook=hook) as manager:
        with pytest.raises(PermissionError):
            await manager.update_metadata({"a": 1})
        with pytest.raises(PermissionError):
            await manager.delete_metadata(7)

    records = [record for record in caplog.records if record.name == "audit"]
    assert [(record.levelname, record.getMessage().partition(", ms=")[0]) for record in records] == [
        ("WARNING", "session_id=<'s-1'>, action=<update>, fields=<[\"a\"]>, outcome=<PermissionError>"),
        ("WARNING", "session_id=<'s-1'>, action=<delete>, fields=<[]>, outcome=<PermissionError>"),
    ]
    assert "s3cret" not in caplog.text


# -- CachedMetadata


async def test_reads_are_answered_from_memory_until_the_next_write(driver: Driver) -> None:
    inner = Inner()
    async with driver.manager(metadata_hook=[CachedMetadata(60), inner.plain]) as manager:
        await manager.update_metadata({"a": 1, "b": 2})
        assert await manager.get_metadata() == await manager.get_metadata() == {"metadata": {"a": 1, "b": 2}}
        await manager.update_metadata({"a": 3})
        assert await manager.get_metadata() == await manager.get_metadata() == {"metadata": {"a": 3, "b": 2}}
        await manager.delete_metadata(["b"])
        assert await manager.get_metadata() == await manager.get_metadata() == {"metadata": {"a": 3}}

    assert inner.actions == ["update", "get", "update", "get", "delete", "get"]


async def test_what_a_caller_does_with_an_answer_changes_no_other_answer(driver: Driver) -> None:
    async with driver.manager(metadata_hook=CachedMetadata(60)) as manager:
        await manager.update_metadata({"list": [{"a": 1}]})
        for _ in range(3):
            answer = await manager.get_metadata()
            assert answer == {"metadata": {"list": [{"a": 1}]}}
            answer["metadata"]["list"][0]["a"] = 2
            answer["metadata"]["more"] = True


async def test_an_answer_is_as_old_as_its_time_to_live_at_most(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(cache, "time", SimpleNamespace(monotonic=lambda: clock.now))
    async with driver.manager(metadata_hook=CachedMetadata(ttl_seconds=5)) as manager:
        await manager.update_metadata({"a": 1})
        await manager.get_metadata()
        await driver.change({"$set": {"metadata.a": 2}})

        clock.now = 104.9
        assert await manager.get_metadata() == {"metadata": {"a": 1}}
        clock.now = 105.0
        assert await manager.get_metadata() == {"metadata": {"a": 2}}


async def test_a_read_that_overlaps_a_write_is_not_kept(driver: Driver) -> None:
    was_read, was_written = threading.Event(), threading.Event()

    def slow_read(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        result = passed_on(original_func, kwargs)
        if action == "get" and not was_read.is_set():
            was_read.set()
            assert was_written.wait(30)
        return result

    async with driver.manager(metadata_hook=[CachedMetadata(60), slow_read]) as manager:
        await manager.update_metadata({"a": 1})
        overlapping = asyncio.create_task(manager.get_metadata())
        assert await asyncio.to_thread(was_read.wait, 30)
        await manager.update_metadata({"a": 2})
        was_written.set()

        assert await overlapping == {"metadata": {"a": 1}}
        assert await manager.get_metadata() == {"metadata": {"a": 2}}


async def test_a_write_that_fails_after_it_stored_is_seen(driver: Driver) -> None:
    def fails_late(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        result = passed_on(original_func, kwargs)
        if action == "update":
            raise TimeoutError
        return result

    async with driver.manager(metadata_hook=[CachedMetadata(60), fails_late]) as manager:
        assert await manager.get_metadata() == {"metadata": {}}
        with pytest.raises(TimeoutError):
            await manager.update_metadata({"a": 1})

        assert await manager.get_metadata() == {"metadata": {"a": 1}}


async def test_nothing_stale_is_kept_by_many_callers_at_once(driver: Driver) -> None:
    hook = CachedMetadata(60)
    async with driver.manager(metadata_hook=hook) as writer, driver.manager(metadata_hook=hook) as reader:

        async def read_on(least: int) -> int:
            seen: int = (await reader.get_metadata())["metadata"]["n"]
            assert seen >= least
            return seen

        await writer.update_metadata({"n": 0})
        for number in range(1, 31):
            reads = [asyncio.create_task(read_on(number - 1)) for _ in range(4)]
            await writer.update_metadata({"n": number})
            assert await read_on(number) == number
            await asyncio.gather(*reads)
            assert await read_on(number) == number


async def test_the_session_that_was_not_asked_for_longest_makes_room(driver: Driver) -> None:
    inner, hook = Inner(), CachedMetadata(60, max_sessions=2)

    async def read(session_id: str) -> int:
        async with driver.manager(session_id, metadata_hook=[hook, inner.plain]) as manager:
            await manager.get_metadata()
        return len(inner.calls)

    assert [await read(name) for name in ("a", "b", "a", "c", "a", "b")] == [1, 2, 2, 3, 3, 4]


async def test_managers_of_both_kinds_share_a_cache_and_collections_do_not(
    driver: Driver, mongo_uri: str, contract_database: str
) -> None:
    inner = Inner()
    hooks: list[Hook] = [CachedMetadata(60), inner.plain]
    address: dict[str, Any] = {"database_name": contract_database, "metadata_hook": hooks, "ensure_indexes": False}
    here = {**address, "collection_name": driver.collection}
    elsewhere = {**address, "collection_name": f"{driver.collection}_other"}

    async with AsyncMongoDBSessionManager("s-1", mongo_uri, **here) as manager:
        await manager.update_metadata({"tenant": "here"})
        await manager.get_metadata()

    def in_a_script() -> list[Any]:
        found = []
        for place in (here, elsewhere):
            with MongoDBSessionManager("s-1", mongo_uri, **place) as manager:
                found.append(manager.get_metadata()["metadata"])
        return found

    assert await asyncio.to_thread(in_a_script) == [{"tenant": "here"}, {}]
    assert inner.actions == ["update", "get", "get"]


async def test_a_manager_that_was_closed_answers_nothing_from_memory(driver: Driver) -> None:
    async with driver.manager(metadata_hook=CachedMetadata(60)) as manager:
        await manager.get_metadata()

    with pytest.raises(SessionClosedError):
        await manager.get_metadata()


async def test_an_error_is_not_kept(driver: Driver) -> None:
    async with driver.manager(metadata_hook=CachedMetadata(60)) as manager:
        await driver.repository().delete_session("s-1")
        with pytest.raises(SessionNotFoundError):
            await manager.get_metadata()
        await driver.store({"_id": "s-1", "session_id": "s-1", "metadata": {"a": 1}})

        assert await manager.get_metadata() == {"metadata": {"a": 1}}


async def test_without_what_tells_collections_apart_nothing_is_kept(driver: Driver) -> None:
    cached = CachedMetadata(60)

    def forgetful(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        kwargs.pop("session_manager", None)
        return cached(original_func, action, session_id, **kwargs)

    def careful(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        return cached(original_func, action, session_id, **kwargs)

    other = type(driver)(driver.database, **driver._client)
    async with (
        driver.manager(metadata_hook=forgetful) as manager,
        other.manager(metadata_hook=forgetful) as elsewhere,
        driver.manager(metadata_hook=careful) as third,
    ):
        await manager.update_metadata({"tenant": "one"})
        await elsewhere.update_metadata({"tenant": "two"})
        for _ in range(2):
            assert await manager.get_metadata() == {"metadata": {"tenant": "one"}}
            assert await elsewhere.get_metadata() == {"metadata": {"tenant": "two"}}
        # A write through the wrapper is seen by those that are kept for a manager that tells where it is.
        assert await third.get_metadata() == {"metadata": {"tenant": "one"}}
        await manager.update_metadata({"tenant": "new"})
        assert await third.get_metadata() == {"metadata": {"tenant": "new"}}


# -- validate_metadata


class Customer(BaseModel):
    name: str
    tier: Literal["silver", "gold"]


class Ticket(BaseModel):
    model_config = ConfigDict(extra="forbid")

    priority: Literal["low", "high"]
    attempts: Annotated[int, Field(ge=0)]
    customer: Customer
    owner: Customer | None = None
    labels: list[str] = []

    @field_validator("labels")
    @classmethod
    def no_blanks(cls, labels: list[str]) -> list[str]:
        if "" in labels:
            raise ValueError("a label must not be empty")
        return labels

    @model_validator(mode="after")
    def attempts_need_priority(self) -> Ticket:
        if self.attempts > 3 and self.priority == "low":
            raise ValueError("after three attempts it is not low any more")
        return self


@pytest.mark.parametrize(
    "metadata",
    [
        {"priority": "high"},
        {"customer.tier": "gold"},
        {"customer": {"name": "Ada", "tier": "silver"}, "labels": ["new"]},
        {"owner": None},
        {"owner.name": "Grace"},
        {},
    ],
)
async def test_parts_that_fit_a_model_are_stored_as_given(driver: Driver, metadata: dict[str, Any]) -> None:
    inner = Inner()
    async with driver.manager(metadata_hook=[validate_metadata(Ticket), inner.plain]) as manager:
        await manager.update_metadata(metadata)

    assert inner.calls == [("update", {"metadata": metadata})]


@pytest.mark.parametrize(
    ("metadata", "refusal"),
    [
        ({"priority": "urgent"}, r"metadata field 'priority': Input should be 'low' or 'high'"),
        ({"attempts": 1, "customer.tier": "s3cret"}, r"metadata field 'customer\.tier': Input should be"),
        ({"customer": {"tier": "gold"}}, r"metadata field 'customer\.name': Field required"),
        ({"owner": {"tier": "gold"}}, r"metadata field 'owner\.name': Field required"),
        ({"labels": ["ok", ""]}, r"metadata field 'labels': Value error, a label must not be empty"),
        ({"labels": ["ok", 5]}, r"metadata field 'labels\.1': "),
        ({"labels.0": "new"}, r"metadata field 'labels': Input should be a valid list"),
        ({"colour": "s3cret"}, r"metadata field 'colour': Extra inputs are not permitted"),
        ({"customer.tier.level": 1}, r"metadata field 'customer\.tier': "),
        ({"attempts": -1, "priority": "s3cret"}, r"'priority': .*; metadata field 'attempts': .* greater than"),
        (
            {"attempts": 4, "priority": "low", "customer": {"name": "Ada", "tier": "gold"}},
            r"metadata fields 'attempts', 'priority', 'customer': Value error, after three attempts",
        ),
        ({"a..b": 1}, r"invalid metadata key: .*, got 'a\.\.b'"),
    ],
)
async def test_what_does_not_fit_a_model_is_named_and_not_stored(
    driver: Driver, metadata: dict[str, Any], refusal: str
) -> None:
    async with driver.manager(metadata_hook=validate_metadata(Ticket)) as manager:
        with pytest.raises(ValueError, match=refusal) as refused:
            await manager.update_metadata(metadata)

        assert await manager.get_metadata() == {"metadata": {}}
    assert "s3cret" not in str(refused.value)
    assert refused.value.__context__ is None


async def test_what_is_no_metadata_is_the_same_error_as_without_the_hook(driver: Driver) -> None:
    async with driver.manager(metadata_hook=validate_metadata(Ticket)) as manager:
        with pytest.raises(TypeError, match="invalid metadata: it must be a dict"):
            await manager.update_metadata(["priority"])
        with pytest.raises(InvalidNameError, match="lies inside 'customer'"):
            await manager.update_metadata({"customer": {}, "customer.tier": "gold"})


async def test_reads_and_deletions_pass_a_model(driver: Driver) -> None:
    async with driver.manager(metadata_hook=validate_metadata(Ticket)) as manager:
        await manager.update_metadata({"priority": "high", "attempts": 1})
        await manager.delete_metadata(["attempts"])

        assert await manager.get_metadata() == {"metadata": {"priority": "high"}}


def no_promises(metadata: dict[str, Any]) -> None:
    if "promised" in metadata.get("note", ""):
        raise ValueError("promise nothing")


@pytest.mark.parametrize(
    ("schema", "metadata", "refusal"),
    [
        (no_promises, {"note": "promised s3cret"}, "metadata field 'note': promise nothing"),
        (no_promises, {"a": 1, "note": "promised"}, "metadata fields 'a', 'note': promise nothing"),
        (Customer.model_validate, {"name": "Ada", "tier": "s3cret"}, "metadata field 'tier': Input should be"),
    ],
)
async def test_a_callable_refuses_with_a_value_error(
    driver: Driver, schema: Any, metadata: dict[str, Any], refusal: str
) -> None:
    async with driver.manager(metadata_hook=validate_metadata(schema)) as manager:
        await manager.update_metadata({"note": "fine", "name": "Ada", "tier": "gold"})
        with pytest.raises(ValueError, match=refusal) as refused:
            await manager.update_metadata(metadata)

        assert await manager.get_metadata() == {"metadata": {"note": "fine", "name": "Ada", "tier": "gold"}}
    assert "s3cret" not in str(refused.value)


# -- redact_fields


@pytest.mark.parametrize("kind", ["plain", "awaited"])
async def test_what_hooks_send_is_masked_and_what_is_stored_is_whole(driver: Driver, kind: str) -> None:
    notifier = Inner()
    hook = redact_fields(getattr(notifier, kind), ["email", "customer.phone", "comment"])
    metadata = {
        "email": "ada@example.com",
        "customer": {"name": "Ada", "phone": "555-0100", "other": [{"email": ["x@example.com"]}]},
        "customer2.phone": "kept",
        "phone": "kept",
    }
    feedback = {"rating": "down", "comment": "wrong"}
    async with driver.manager(metadata_hook=hook, feedback_hook=hook) as manager:
        await manager.update_metadata(metadata)
        await manager.add_feedback(feedback)
        whole = await manager.get_metadata()
        await manager.update_metadata({"customer.phone": "555-0199", "customer.phones": [1]})
        await manager.delete_metadata(["email"])
        stored = await driver.stored()

    mask = "[redacted]"
    assert notifier.calls == [
        (
            "update",
            {
                "metadata": {
                    "email": mask,
                    "customer": {"name": "Ada", "phone": mask, "other": [{"email": mask}]},
                    "customer2.phone": "kept",
                    "phone": "kept",
                }
            },
        ),
        ("add", {"feedback": {"rating": "down", "comment": mask}}),
        ("get", {}),
        ("update", {"metadata": {"customer.phone": mask, "customer.phones": [1]}}),
        ("delete", {"keys": ["email"]}),
    ]
    assert whole["metadata"] == {
        "email": "ada@example.com",
        "customer": metadata["customer"],
        "customer2": {"phone": "kept"},
        "phone": "kept",
    }
    assert stored["metadata"]["customer"] == {
        "name": "Ada",
        "phone": "555-0199",
        "phones": [1],
        "other": [{"email": ["x@example.com"]}],
    }
    assert stored["feedbacks"][0]["comment"] == "wrong"
    assert mask not in json.dumps(stored, default=str)


async def test_fields_of_objects_in_lists_are_masked_by_their_path(driver: Driver) -> None:
    notifier = Inner()
    async with driver.manager(metadata_hook=redact_fields(notifier.plain, ["orders.card", "0.1"])) as manager:
        await manager.update_metadata({"orders": [{"card": "4111", "id": 7}, {"card": "4222"}], "card": "club"})
        await manager.update_metadata({"orders.0.card": "4333", "orders.1.id": 8})

        assert (await driver.stored())["metadata"]["orders"] == [{"card": "4333", "id": 7}, {"card": "4222", "id": 8}]
    assert [kwargs["metadata"] for _, kwargs in notifier.calls] == [
        {"orders": [{"card": "[redacted]", "id": 7}, {"card": "[redacted]"}], "card": "club"},
        {"orders.0.card": "[redacted]", "orders.1.id": 8},
    ]


async def test_what_is_changed_beside_a_masked_field_is_stored_with_the_whole_field(driver: Driver) -> None:
    def tidy(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        metadata = kwargs["metadata"]
        metadata["customer"]["name"] = metadata["customer"]["name"].strip()
        metadata["orders"][0]["id"] += 1
        return original_func(metadata)

    async with driver.manager(metadata_hook=redact_fields(tidy, ["phone", "orders.card"])) as manager:
        await manager.update_metadata(
            {"customer": {"name": " Ada ", "phone": "555"}, "orders": [{"card": "4111", "id": 7}]}
        )

        assert (await driver.stored())["metadata"] == {
            "customer": {"name": "Ada", "phone": "555"},
            "orders": [{"card": "4111", "id": 8}],
        }


PEOPLE = [{"name": "Bo", "email": "bo@example.org"}, {"name": "Ada", "email": "ada@example.org"}]
CY = {"name": "Cy", "email": "cy@example.org"}


@pytest.mark.parametrize("mask", ["[redacted]", {"masked": True}, ["masked"]], ids=repr)
@pytest.mark.parametrize(
    ("moved", "stored"),
    [
        (lambda given: {"people": sorted(given["people"], key=lambda one: one["name"])}, {"people": PEOPLE[::-1]}),
        (lambda given: {"people": given["people"][1:]}, {"people": PEOPLE[1:]}),
        (lambda given: {"people": [CY, *given["people"]]}, {"people": [CY, *PEOPLE]}),
        (lambda given: {"customers": given["people"]}, {"customers": PEOPLE}),
        (lambda given: {"first": given["people"][0]["email"]}, {"first": "bo@example.org"}),
        (lambda given: {"by": {one["name"]: one for one in given["people"]}}, {"by": {p["name"]: p for p in PEOPLE}}),
        (lambda given: {"people": tuple(given["people"])}, {"people": PEOPLE}),
    ],
    ids=["sorted", "shortened", "extended", "renamed", "taken out", "regrouped", "as a tuple"],
)
async def test_a_masked_value_that_is_moved_is_stored_whole(
    driver: Driver, mask: Any, moved: Callable[[Any], Any], stored: dict[str, Any]
) -> None:
    seen: list[str] = []

    def move(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        if action == "update":
            seen.append(str(kwargs))
            return original_func(moved(kwargs["metadata"]))
        return original_func(**kwargs)

    async with driver.manager(metadata_hook=redact_fields(move, ["email"], mask=mask)) as manager:
        await manager.update_metadata({"people": PEOPLE})
        answer = await manager.get_metadata()

    assert {key: [*value] if isinstance(value, tuple) else value for key, value in answer["metadata"].items()} == stored
    assert "@" not in seen[0]


@pytest.mark.parametrize(("given", "made"), [(1, True), (0, False), (2, 2.0), (True, 1)])
async def test_a_change_to_an_equal_value_of_another_kind_is_stored(driver: Driver, given: Any, made: Any) -> None:
    def change(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        return original_func({**kwargs["metadata"], "flag": made})

    async with driver.manager(metadata_hook=redact_fields(change, ["email"])) as manager:
        await manager.update_metadata({"flag": given, "email": "ada@example.org"})

        stored = (await driver.stored())["metadata"]

    assert stored == {"flag": made, "email": "ada@example.org"}
    assert type(stored["flag"]) is type(made)


async def test_several_notifying_hooks_are_masked_alike_and_may_be_chained(driver: Driver) -> None:
    first, second, outside = Inner(), Inner(), Inner()
    inner = redact_fields(chain_hooks(first.plain, second.awaited), {"a": 1}.keys(), mask=None)
    hook = [outside.plain, redact_fields(inner, ["b"]), outside.awaited]
    async with driver.manager(metadata_hook=hook) as manager:
        await manager.update_metadata({"a": 1, "b": 2})

        assert await manager.get_metadata() == {"metadata": {"a": 1, "b": 2}}
    for notifier in (first, second):
        assert notifier.calls[0] == ("update", {"metadata": {"a": None, "b": "[redacted]"}})
    assert [call for call in outside.calls if call[0] == "update"] == [("update", {"metadata": {"a": 1, "b": 2}})] * 2


async def test_what_a_masked_hook_adds_or_changes_is_stored(driver: Driver) -> None:
    def enrich(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        metadata = kwargs["metadata"]
        metadata["seen_by"] = "notifier"
        metadata["count"] += 1
        metadata["customer"]["visits"] = 1
        return original_func(metadata=metadata)

    async with driver.manager(metadata_hook=redact_fields(enrich, ["email"])) as manager:
        await manager.update_metadata({"email": "ada@example.com", "count": 1, "customer": {"name": "Ada"}})
        stored = await driver.stored()

    assert stored["metadata"] == {
        "email": "ada@example.com",
        "count": 2,
        "customer": {"name": "Ada", "visits": 1},
        "seen_by": "notifier",
    }


async def test_a_masked_hook_that_asks_for_it_gets_the_session_manager(driver: Driver) -> None:
    managers: list[Any] = []

    def hook(original_func: Any, action: str, session_id: str, session_manager: Any, **kwargs: Any) -> Any:
        managers.append(session_manager.session_id)
        return passed_on(original_func, kwargs)

    async with driver.manager(feedback_hook=redact_fields(hook, ["comment"])) as manager:
        await manager.add_feedback({"comment": "fine"})

    assert managers == ["s-1"]


async def test_a_masked_hook_decides_and_answers_as_any_hook(driver: Driver) -> None:
    def refuse(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        return "refused"

    async with driver.manager(metadata_hook=redact_fields(refuse, ["a"])) as manager:
        assert await manager.update_metadata({"a": 1}) == "refused"
        assert await manager.update_metadata(None) == "refused"

        assert (await driver.stored())["metadata"] == {}
