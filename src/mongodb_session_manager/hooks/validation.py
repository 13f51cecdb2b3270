"""A hook that refuses metadata which does not fit a schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..schema.names import check_metadata_update
from .invocation import Hook, is_async
from .watching import any_face

Check: TypeAlias = Callable[[dict[str, Any]], object]


def validate_metadata(schema: type[BaseModel] | Check) -> Hook:
    """Make a metadata hook that checks updates before they are stored.

    A pydantic model describes the metadata as a whole, and an update may set any part of it: fields that the update
    leaves out are not missing. With dots in a key, only the nested field is checked (`{"customer.tier": "gold"}` does
    not need `customer.name`); a nested object that is set as a whole must be complete. Whether other fields are
    allowed is the model's `extra`; validators over several fields run when the update holds all that is required. A
    list is checked as a whole only: one position of it (`{"labels.0": "new"}`) is refused.
    What is stored is what the caller gave, not what pydantic made of it; a model with `strict=True` accepts nothing
    that it would have to convert.

    A callable is called with the update as a dict, keys as the caller wrote them, and raises `ValueError` to refuse
    it. What it returns is not used.

    Reads and deletions pass.

    Args:
        schema: Subclass of `pydantic.BaseModel`, or a callable.

    Returns:
        A hook. It raises `ValueError`, which names the refused fields and says what is wrong in the words of pydantic
        or of the callable.

    Raises:
        TypeError: `schema` is neither, or an ``async`` function.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        check: Check = _ModelCheck(schema)
    elif is_async(schema):
        raise TypeError("invalid schema: a check must be a plain function; for an async one write a hook of your own")
    elif callable(schema) and not isinstance(schema, type):
        check = _named(schema)
    else:
        given = f"the class {schema.__name__}" if isinstance(schema, type) else f"an object of {type(schema).__name__}"
        raise TypeError(f"invalid schema: it must be a pydantic model class or a callable, got {given}")

    def validate(original_func: Callable[..., Any], action: str, session_id: str, **payload: Any) -> Any:
        if action == "update":
            check(payload["metadata"])
        return original_func(*payload.values())

    # A callable of the user's may take its time: on an event loop it belongs in a thread.
    return any_face(validate) if isinstance(check, _ModelCheck) else validate


class _ModelCheck:
    """Raises `ValueError` for an update that cannot become part of a model."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __call__(self, metadata: dict[str, Any]) -> None:
        # What can be no metadata at all is refused in the same words as without this hook.
        check_metadata_update(metadata)
        paths = [tuple(key.split(".")) for key in metadata]
        refused = self._refused(_nested(metadata), paths)
        if refused:
            raise ValueError(_text(refused, metadata))

    def _refused(self, nested: dict[str, Any], paths: list[tuple[str, ...]]) -> list[ErrorDetails]:
        try:
            self._model.model_validate(nested)
        except ValidationError as error:
            # What is missing above a given path may be stored already; what is missing below it cannot be.
            return [
                found for found in error.errors() if found["type"] != "missing" or _is_inside_any(found["loc"], paths)
            ]
        return []


def _named(check: Check) -> Check:
    def named(metadata: dict[str, Any]) -> None:
        refused: list[ErrorDetails] = []
        try:
            check(metadata)
        except ValidationError as error:
            # Its own text shows the values that were refused, and this error may end in a log.
            refused = error.errors()
        except ValueError as error:
            raise ValueError(f"invalid metadata {_fields(metadata)}: {error}") from error
        if refused:
            raise ValueError(_text(refused, metadata))

    return named


def _text(refused: list[ErrorDetails], metadata: dict[str, Any]) -> str:
    """Say which fields were refused and why; an error of the model as a whole is about all fields of the update."""
    places = (".".join(str(part) for part in found["loc"]) for found in refused)
    return "invalid " + "; ".join(
        f"metadata {_fields([place] if place else metadata)}: {found['msg']}"
        for place, found in zip(places, refused, strict=True)
    )


def _fields(names: Iterable[str]) -> str:
    listed = [repr(name) for name in names]
    return f"field{'s' * (len(listed) > 1)} {', '.join(listed)}"


def _nested(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the update with dotted keys as objects inside objects; no key lies inside another one."""
    result: dict[str, Any] = {}
    for key, value in metadata.items():
        *parents, name = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return result


def _is_inside_any(location: tuple[int | str, ...], paths: list[tuple[str, ...]]) -> bool:
    return any(location[: len(path)] == path for path in paths)
