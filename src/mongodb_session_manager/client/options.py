"""Options of the clients this library makes: defaults, what a connection string sets, errors without secrets."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, InvalidURI

POOL_DEFAULTS: Mapping[str, Any] = {
    "maxPoolSize": 100,
    "minPoolSize": 10,
    "maxIdleTimeMS": 30_000,
    "waitQueueTimeoutMS": 5_000,
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 10_000,
    "retryWrites": True,
    "retryReads": True,
}
"""What applies unless the caller's options or the connection string say otherwise."""


def with_defaults(connection_string: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the caller's options plus the defaults for what neither they nor the connection string set.

    Raises:
        pymongo.errors.InvalidURI: The credentials hold a character that has to be percent-encoded.
    """
    _check_encoded(connection_string)
    in_string = connection_string_options(connection_string)
    given = {name.lower(): value for name, value in options.items()}
    merged = dict(options)
    for name, default in POOL_DEFAULTS.items():
        if name.lower() not in given and name.lower() not in in_string:
            merged[name] = default
    if "minPoolSize" in merged and "minpoolsize" not in given:
        largest = _as_int(given.get("maxpoolsize", in_string.get("maxpoolsize")))
        if largest:  # 0 means no limit
            merged["minPoolSize"] = min(merged["minPoolSize"], largest)
    # Making a client is never allowed to wait for the network; the driver connects with the first operation.
    return {name: value for name, value in merged.items() if name.lower() != "connect"} | {"connect": False}


def check_connection_string(connection_string: str) -> None:
    """Raise the driver's error about a connection string that it cannot understand, without secrets. Sends nothing.

    Raises:
        pymongo.errors.ConfigurationError: It is malformed, or sets an option that the driver refuses. Some of the
            driver's refusals are plain `ValueError`.
    """
    failure: Exception
    try:
        MongoClient[Any](connection_string, **with_defaults(connection_string, {})).close()
        return
    except Exception as error:
        failure = safe_error(error, connection_string, {})
    raise failure


_NOT_ENCODED = (
    "invalid connection string: special characters in user name and password (such as @ : / ? # %) must be "
    "percent-encoded, as urllib.parse.quote_plus does; an @ after the first / says that one is not"
)


def _check_encoded(connection_string: str) -> None:
    # The driver takes "p@ss/w" in `mongodb://user:p@ss/w@host` for the password "p", the host "ss" and the database
    # "w@host", and would look for that host, with a part of the password in its errors.
    path = connection_string.partition("://")[2].partition("?")[0].partition("/")[2]
    if "@" in path:
        raise InvalidURI(_NOT_ENCODED)


def connection_string_options(connection_string: str) -> dict[str, str]:
    """Return the options in the query part of a connection string, names in lower case. Looks nothing up."""
    query = connection_string.partition("?")[2]
    pairs = (pair.partition("=") for pair in re.split("[&;]", query) if pair)
    return {name.lower(): unquote_plus(value) for name, _, value in pairs}


def _as_int(value: object) -> int | None:
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        return None  # the driver says what is wrong with it


def comparable(value: object) -> Hashable:
    """Return a key that is equal for equal option values; what cannot be hashed is compared by identity.

    The caller keeps the value alive as long as the key.
    """
    if isinstance(value, Mapping):
        return ("mapping", frozenset((name, comparable(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return ("sequence", tuple(comparable(item) for item in value))
    try:
        hash(value)
    except TypeError:
        return ("identity", id(value))
    return (type(value), value)


def safe_error(error: Exception, connection_string: str, options: Mapping[str, Any]) -> Exception:
    """Return the driver's error about a connection string or options, without what it may quote of the credentials."""
    if str(error) == _NOT_ENCODED:  # It quotes nothing, though its words may hold a short password's letters.
        return error
    secrets = _secrets(connection_string, options)
    texts = list(_texts(error))
    if not any(secret in text for secret in secrets for text in texts):
        return error
    named = f" or one of the client options {sorted(options)}" if options else ""
    kind = (
        type(error) if isinstance(error, InvalidURI) or type(error) in (TypeError, ValueError) else ConfigurationError
    )
    return kind(
        f"the connection string{named} is not valid; the driver's message is withheld because it quotes the "
        "credentials (special characters in user name and password must be percent-encoded)"
    )


def _texts(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def _secrets(connection_string: str, options: Mapping[str, Any]) -> set[str]:
    after_scheme = connection_string.partition("://")[2] or connection_string
    password = after_scheme.rpartition("@")[0].partition(":")[2]
    # An unescaped "@", "/" or ":" makes the driver take any part of the password for a host or a port.
    parts = [password, *re.split("[:@/?#]", password)]
    parts += [str(value) for name, value in options.items() if "password" in name.lower()]
    parts += [value for name, value in connection_string_options(connection_string).items() if "password" in name]
    return {form for part in parts for form in (part, unquote(part), unquote_plus(part)) if form}
