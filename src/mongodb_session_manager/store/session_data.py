"""What a session stores beside its conversations: metadata, feedback, agent configurations.

Each function makes one step; who applies it (a manager's queue, a repository) decides how it is ordered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..schema import values
from ..schema.agents import CONFIG_FIELDS
from ..schema.messages import bson_date, iso_date, now
from ..schema.names import check_metadata_keys, check_metadata_update
from ..schema.sessions import dated
from .batches import Step

METADATA_PROJECTION = {"metadata": 1}


def metadata_update(metadata: Mapping[str, Any]) -> Step | None:
    """Return the step that sets some metadata fields; None when there is nothing to set.

    Raises:
        InvalidNameError: A key is not allowed, or two keys lie inside each other.
        TypeError: Not a dict, or a value cannot be stored.
    """
    paths = check_metadata_update(metadata)
    fields = {path: values.encode(value, where=path, native_dates=True) for path, value in paths.items()}
    return Step(fields=fields) if fields else None


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
    metadata = document.get("metadata") or {}
    return {"metadata": {key: values.decode(value) for key, value in metadata.items()}}


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
