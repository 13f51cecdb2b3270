"""What a session stores beside its conversations: metadata, feedback, agent configurations.

Each function makes one step; who applies it (a manager's queue, a repository) decides how it is ordered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from pymongo.errors import WriteError

from ..errors import SessionStoreError
from ..schema import values
from ..schema.agents import CONFIG_FIELDS
from ..schema.messages import bson_date, iso_date, now
from ..schema.metadata import COUNTER, MetadataUpdate
from ..schema.names import check_metadata_keys
from ..schema.sessions import dated
from .batches import Step
from .store import SessionStore

TITLE_CHARACTERS = 120
METADATA_PROJECTION = {"metadata": 1}

_PATH_NOT_VIABLE = 28
_IDLE_ATTEMPTS = 10
"""How often an update of metadata is sent again although nothing else changed the document."""


async def update_metadata(
    store: SessionStore, session_id: str, metadata: object, submit: Callable[[Step], Awaitable[bool]]
) -> None:
    """Set some metadata fields, within the limits of `schema.metadata` whatever other writers do meanwhile.

    Args:
        store: Where the session is.
        session_id: The session.
        metadata: Keys and values; dots address nested fields.
        submit: Applies a step; False when the step's own guard refused it.

    Raises:
        InvalidNameError: A key is not allowed, two keys lie inside each other, or a key leads into a plain value or
            beyond the end of a list.
        MetadataTooLargeError: The update, or all metadata with it, is too large.
        SessionNotFoundError: No such session.
        SessionStoreError: The document refuses it for no reason that can be seen.
        TypeError: Not a dict, or a value cannot be stored.
    """
    update = MetadataUpdate.parse(session_id, metadata)
    if update is None:
        return
    step = Step(
        fields=dict(update.fields), increments={COUNTER: update.growth}, guard=update.guard(), awaits_refusal=True
    )
    seen: object = None
    idle = 0
    while idle < _IDLE_ATTEMPTS and not await _submitted(submit, step):
        document = await store.find(session_id, {"metadata": 1, "revision": 1})
        step = _step_on(update, document)
        # A writer that others keep overtaking is not stuck: each time one of them got on.
        idle = idle + 1 if document.get("revision") == seen else 0
        seen = document.get("revision")
    if idle == _IDLE_ATTEMPTS:
        raise SessionStoreError(
            f"session {session_id!r} refuses an update of its metadata again and again: its document is not as this "
            "library writes it, so another tool may have changed it"
        )


def _step_on(update: MetadataUpdate, document: dict[str, Any]) -> Step:
    """Return the step that sets the fields in the document that was read, and in no later one."""
    metadata, fields = document.get("metadata"), dict(update.fields)
    if metadata is None:  # missing, or null, in which the server creates no fields
        metadata = {}
        fields = {"metadata": metadata}
    size = update.applied_to(metadata)
    # Each write raises the revision.
    guard = {"revision": document.get("revision")}
    return Step(fields={**fields, COUNTER: size}, guard=guard, awaits_refusal=True)


async def _submitted(submit: Callable[[Step], Awaitable[bool]], step: Step) -> bool:
    try:
        return await submit(step)
    except WriteError as error:
        if error.code != _PATH_NOT_VIABLE:
            raise
        # The driver's error, which holds what is stored, goes no further; what was read will tell the key.
        return False


def metadata_deletion(keys: Iterable[str]) -> Step | None:
    """Return the step that deletes some metadata fields; None when there is nothing to delete.

    Raises:
        InvalidNameError: A key is not allowed.
        TypeError: Not a list of keys.
    """
    paths = check_metadata_keys(keys)
    return Step(removed=paths) if paths else None


def metadata_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"metadata": {...}}` out of a stored document."""
    metadata = document.get("metadata")
    fields = metadata if isinstance(metadata, Mapping) else {}
    return {"metadata": {key: values.decode(value) for key, value in fields.items()}}


def title_update(title: str) -> Step:
    """Return the step that gives a session another title: one line, cut to what a title may have.

    Raises:
        TypeError: No text.
        ValueError: Nothing but blanks.
    """
    if not isinstance(title, str):
        raise TypeError(f"title must be a string, not {type(title).__name__}")
    line = " ".join(title.split())
    if not line:
        raise ValueError("invalid title: it must have a character that is not a blank")
    if len(line) > TITLE_CHARACTERS:
        line = f"{line[: TITLE_CHARACTERS - 1].rstrip()}…"
    return Step(fields={"title": values.encode(line, where="title")})


def feedback_addition(feedback: Mapping[str, Any]) -> Step:
    """Return the step that adds a feedback, dated now.

    Raises:
        TypeError: Not a dict, or a value cannot be stored.
    """
    if not isinstance(feedback, Mapping):
        raise TypeError(f"feedback must be a dict, such as {{'rating': 'up'}}, not {type(feedback).__name__}")
    encoded = values.encode(dict(feedback), where="feedback", native_dates=True)
    return Step(
        pushes={"feedbacks": [{**encoded, "created_at": bson_date(now())}]},
        increments={"summary.feedbacks": 1},
    )


def feedbacks_of(stored: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return stored feedbacks as they were given, with `created_at`."""
    return [values.decode(dated(feedback, "created_at")) for feedback in stored]


def config_update(
    key: str, *, model: str | None = None, system_prompt: str | None = None, prompt_metadata: object = None
) -> Step:
    """Return the step that changes an agent's recorded configuration; what is None stays as it is.

    Args:
        key: The agent's field under `agents`.
        model: New model identifier.
        system_prompt: New system prompt.
        prompt_metadata: Anything that describes the prompt, such as its version.

    Raises:
        TypeError: A value cannot be stored.
    """
    given = dict(zip((*CONFIG_FIELDS, "prompt_metadata"), (model, system_prompt, prompt_metadata), strict=True))
    return _config_step(key, {name: value for name, value in given.items() if value is not None})


def prompt_metadata_update(key: str, prompt_metadata: object) -> Step:
    """Return the step that records what describes an agent's prompt; None deletes the record.

    Raises:
        TypeError: The value cannot be stored.
    """
    if prompt_metadata is not None:
        return _config_step(key, {"prompt_metadata": prompt_metadata})
    step = _config_step(key, {})
    step.removed.append(f"agents.{key}.agent_data.prompt_metadata")
    return step


def _config_step(key: str, given: Mapping[str, object]) -> Step:
    prefix = f"agents.{key}.agent_data"
    fields = {f"{prefix}.{name}": values.encode(value, where=name) for name, value in given.items()}
    fields[f"{prefix}.updated_at"] = iso_date(now())
    return Step(fields=fields, guard={f"{prefix}.agent_id": {"$exists": True}})
