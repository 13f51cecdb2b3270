"""What a session stores beside its conversations: metadata, feedback, agent configurations.

Each function makes one update; what applies it (a manager's queue, a repository) decides on the order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ..errors import CorruptSessionError
from ..schema import paths, values
from ..schema.agents import CONFIG_FIELDS
from ..schema.messages import bson_date, dated, iso_date, now
from ..schema.metadata import COUNTER, MetadataUpdate, deletable, deletion_guard
from ..schema.names import check_idempotency_key, check_metadata_keys
from ..schema.sessions import KEY_RING, rating_of
from ..schema.titles import cut_title
from .refusals import Refusals
from .store import SessionStore
from .updates import SetFields, Update


async def update_metadata(
    store: SessionStore, session_id: str, metadata: object, submit: Callable[[Update], Awaitable[bool]]
) -> None:
    """Set some metadata fields, within the limits of `schema.metadata` whatever other writers do meanwhile.

    Args:
        store: Where the session is.
        session_id: The session.
        metadata: Keys and values; dots address nested fields.
        submit: Applies an update; False when the update's own guard refused it.

    Raises:
        InvalidNameError: A key is not allowed, two keys lie inside each other, or a key leads into a plain value or
            beyond the end of a list.
        MetadataTooLargeError: The update, or all metadata with it, is too large.
        SessionNotFoundError: No such session.
        SessionStoreError: The document refuses it again and again, and nothing in it says why.
        TypeError: Not a dict, or a value cannot be stored.
    """
    update = MetadataUpdate.parse(session_id, metadata)
    if update is None:
        return
    change = SetFields(fields=dict(update.fields), increments={COUNTER: update.growth}, guard=update.guard())
    await _submit_to_latest(store, session_id, submit, change, partial(_change_of, update))


def _change_of(update: MetadataUpdate, document: dict[str, Any]) -> SetFields:
    """Return what sets the fields in the document that was read, and in no later one."""
    metadata, fields = document.get(paths.METADATA), dict(update.fields)
    if metadata is None:  # missing, or null, in which the server creates no fields
        metadata = {}
        fields = {paths.METADATA: metadata}
    size = update.applied_to(metadata)
    # Each write raises the revision.
    guard = {paths.REVISION: document.get(paths.REVISION)}
    return SetFields(fields={**fields, COUNTER: size}, guard=guard)


async def _submitted(submit: Callable[[Update], Awaitable[bool]], change: SetFields) -> bool:
    try:
        return await submit(Update(session=change))
    except CorruptSessionError as error:
        if error.field is not None:
            raise
        return False  # A key may lead into a plain value: what is read then tells.


async def delete_metadata(
    store: SessionStore, session_id: str, keys: Iterable[str], submit: Callable[[Update], Awaitable[bool]]
) -> None:
    """Delete some metadata fields; a key that leads into a plain value names none.

    Args:
        store: Where the session is.
        session_id: The session.
        keys: Their names; dots address nested fields.
        submit: Applies an update; False when the update's own guard refused it.

    Raises:
        InvalidNameError: A key is not allowed.
        SessionNotFoundError: No such session.
        SessionStoreError: The document refuses it again and again, and nothing in it says why.
        TypeError: Not a list of keys.
    """
    fields = check_metadata_keys(keys)
    if not fields:
        return

    def deletion(document: dict[str, Any]) -> SetFields | None:
        left = deletable(fields, document.get(paths.METADATA))
        return SetFields(removed=left, guard={paths.REVISION: document.get(paths.REVISION)}) if left else None

    change = SetFields(removed=fields, guard=deletion_guard(fields))
    await _submit_to_latest(store, session_id, submit, change, deletion)


def metadata_removal(key: str, value: object) -> Update:
    """Return the update that deletes a metadata field as long as it has this value."""
    (field,) = check_metadata_keys([key])
    return Update(session=SetFields(removed=[field], guard={field: values.encode(value)}))


async def _submit_to_latest(
    store: SessionStore,
    session_id: str,
    submit: Callable[[Update], Awaitable[bool]],
    change: SetFields,
    anew: Callable[[dict[str, Any]], SetFields | None],
) -> None:
    """Submit a change of metadata; where it is refused, what `anew` makes of the metadata as it is by then."""
    refusals = Refusals(session_id)
    while not await _submitted(submit, change):
        document = await store.find(session_id, {paths.METADATA: 1, paths.REVISION: 1})
        if (latest := anew(document)) is None:
            return
        change = latest
        refusals.note(document.get(paths.REVISION))


def metadata_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"metadata": {...}}` out of a stored document."""
    fields = paths.object_at(document, paths.METADATA)
    return {paths.METADATA: {key: values.decode(value) for key, value in fields.items()}}


def title_update(title: str) -> Update:
    """Return the update that gives a session another title: one line, cut to what a title may have.

    Raises:
        TypeError: The title is not a string.
        ValueError: The title has nothing but blanks.
    """
    if not isinstance(title, str):
        raise TypeError(f"invalid title: it must be a string, not {type(title).__name__}")
    line = cut_title(title)
    if line is None:
        raise ValueError("invalid title: it must have a character that is not a blank")
    fields = {paths.TITLE: values.encode(line, where=paths.TITLE)}
    # It is no message's any more, so that a redaction leaves it alone.
    return Update(session=SetFields(fields=fields, removed=[paths.TITLE_OF]))


def feedback_addition(feedback: Mapping[str, Any], key: str | None = None) -> Update:
    """Return the update that adds a feedback, dated now.

    Args:
        feedback: What the caller gives.
        key: Names the request: the update refuses a session that remembers it, and is remembered along with it.

    Raises:
        TypeError: Not a dict, or a value cannot be stored.
        ValueError: The key is empty or longer than 256 characters.
    """
    if not isinstance(feedback, Mapping):
        raise TypeError(
            f"invalid feedback: it must be a dict, such as {{'rating': 'up'}}, not {type(feedback).__name__}"
        )
    encoded = values.encode(dict(feedback), where="feedback", native_dates=True)
    update = Update(
        session=SetFields(
            pushes={paths.FEEDBACKS: [{**encoded, paths.CREATED_AT: bson_date(now())}]},
            increments={paths.SUMMARY_FEEDBACKS: 1, paths.summary_ratings(rating_of(feedback)): 1},
        )
    )
    if key is not None:
        # An object, so that it is never taken for the key of a turn.
        remembered = {"feedback": check_idempotency_key(key)}
        update.session.guard = {paths.IDEMPOTENCY_KEYS: {"$ne": remembered}}
        update.session.pushes[paths.IDEMPOTENCY_KEYS] = [remembered]
        update.session.keep[paths.IDEMPOTENCY_KEYS] = KEY_RING
    return update


def feedbacks_of(sealed: Iterable[Mapping[str, Any]], live: object) -> list[dict[str, Any]]:
    """Return stored feedbacks as they were given, with `created_at`; not what else other tools left there."""
    stored = [*sealed, *(live if isinstance(live, list) else ())]
    found = (values.decode(dated(feedback, paths.CREATED_AT)) for feedback in stored)
    return [feedback for feedback in found if isinstance(feedback, dict)]


def config_update(
    key: str, *, model: str | None = None, system_prompt: str | None = None, prompt_metadata: object = None
) -> Update:
    """Return the update that changes an agent's recorded configuration; what is None stays as it is.

    Args:
        key: The agent's field under `agents`.
        model: New model identifier.
        system_prompt: New system prompt.
        prompt_metadata: Anything that describes the prompt, such as its version.

    Raises:
        TypeError: A value cannot be stored.
    """
    given = dict(zip((*CONFIG_FIELDS, paths.PROMPT_METADATA), (model, system_prompt, prompt_metadata), strict=True))
    return _config_update(key, {name: value for name, value in given.items() if value is not None})


def prompt_metadata_update(key: str, prompt_metadata: object) -> Update:
    """Return the update that records what describes an agent's prompt; None deletes the record.

    Raises:
        TypeError: The value cannot be stored.
    """
    if prompt_metadata is not None:
        return _config_update(key, {paths.PROMPT_METADATA: prompt_metadata})
    update = _config_update(key, {})
    update.session.removed.append(paths.agent(key, paths.agent_data(paths.PROMPT_METADATA)))
    return update


def _config_update(key: str, given: Mapping[str, object]) -> Update:
    def path(name: str) -> str:
        return paths.agent(key, paths.agent_data(name))

    fields = {path(name): values.encode(value, where=name) for name, value in given.items()}
    fields[path(paths.UPDATED_AT)] = iso_date(now())
    return Update(session=SetFields(fields=fields, guard={path(paths.AGENT_ID): {"$exists": True}}))
