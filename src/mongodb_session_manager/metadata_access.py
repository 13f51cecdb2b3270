"""Which metadata fields a model may see and change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .schema import paths
from .schema.names import check_names, metadata_path

MISSING = object()
"""What stands for a field that is not there, or not for the model."""

Path = tuple[str, ...]


class MetadataAccess:
    """The fields that are open to a model, without those that are protected.

    A field stands for everything below it. A protected field is meant in the items of lists, too: `people.password`
    protects `people.0.password`.
    """

    def __init__(self, fields: Iterable[str] | None, protected: Iterable[str]) -> None:
        """Take the names as metadata keys; None as `fields` opens all that is not protected.

        Raises:
            InvalidNameError: A name cannot be a metadata key.
            TypeError: A plain string where several names are meant.
        """
        self.fields = None if fields is None else _names("fields", fields)
        self._open = None if self.fields is None else [_path(name) for name in self.fields]
        self._protected = {_path(name): name for name in _names("protected", protected)}

    def refusal(self, key: str, *, changes: bool) -> str | None:
        """Return why a key may not be read or changed, None when it may."""
        path = _path(key)
        for form in (path, _outside_lists(path)):
            for protected, name in self._protected.items():
                if _starts(form, protected):
                    return f"the field {name!r} is protected: this tool can neither read nor change it"
                if changes and _starts(protected, form):
                    return (
                        f"the field {key!r} holds {name!r}, which is protected; change its other fields by their names"
                    )
        if self._is_open(path) or (not changes and self._holds_open(path)):
            return None
        return f"the field {key!r} is not open to this tool; those that are: {self.fields}"

    def visible(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of the metadata the model may see."""
        found = {key: self._visible(value, _path(key)) for key, value in stored.items()}
        return {key: value for key, value in found.items() if value is not MISSING}

    def _visible(self, value: Any, path: Path) -> Any:
        forms = (path, _outside_lists(path))
        if any(_starts(form, protected) for form in forms for protected in self._protected):
            return MISSING
        is_open = self._is_open(path)
        if not is_open and not self._holds_open(path):
            return MISSING
        if is_open and not any(_starts(protected, form) for form in forms for protected in self._protected):
            return value
        if isinstance(value, Mapping):
            found = {key: self._visible(item, (*path, *_path(str(key)))) for key, item in value.items()}
            found = {key: item for key, item in found.items() if item is not MISSING}
            return found if found or is_open else MISSING
        if isinstance(value, list | tuple):
            items = [self._visible(item, (*path, str(index))) for index, item in enumerate(value)]
            # What is left keeps its place: the model may go on to address it.
            return [None if item is MISSING else item for item in items] if is_open else MISSING
        return value if is_open else MISSING

    def _is_open(self, path: Path) -> bool:
        return self._open is None or any(_starts(path, field) for field in self._open)

    def _holds_open(self, path: Path) -> bool:
        return self._open is None or any(_starts(field, path) for field in self._open)


def _names(parameter: str, names: Iterable[str]) -> list[str]:
    return [
        metadata_path(name).removeprefix(paths.metadata("")) for name in check_names(parameter, names, "field names")
    ]


def _path(name: str) -> Path:
    return tuple(name.split("."))


def _outside_lists(path: Path) -> Path:
    return tuple(segment for segment in path if not (segment.isascii() and segment.isdigit()))


def _starts(path: Path, beginning: Path) -> bool:
    return path[: len(beginning)] == beginning
