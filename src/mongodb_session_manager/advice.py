"""What to try when MongoDB cannot be used: which host, and what mostly is the reason. Never a user or a password."""

from __future__ import annotations

from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import AutoReconnect, ConfigurationError, OperationFailure, PyMongoError

AUTHENTICATION_CODES = frozenset({18, 8000})
"""Server codes for a user or password that does not fit; 8000 is Atlas' own."""

UNAUTHORIZED = 13


def is_away(error: PyMongoError) -> bool:
    """Tell whether no server could be asked: none answers, or DNS does not say where the servers are."""
    return isinstance(error, AutoReconnect) or _is_about_names(error)


def _is_about_names(error: PyMongoError) -> bool:
    # The driver takes whatever befalls a look-up of a `mongodb+srv` address for a wrong setting; a setting that is
    # wrong by itself was not raised for anything. Older drivers hide what it was raised for.
    causes = (error.__cause__, error.__context__)
    return isinstance(error, ConfigurationError) and any(
        isinstance(cause, OSError) or type(cause).__module__.partition(".")[0] == "dns" for cause in causes
    )


def wants_user(error: PyMongoError) -> bool:
    """Tell whether the server refused because the connection has no user, or none that is there any more."""
    said = str((error.details or {}).get("errmsg", "")) if isinstance(error, OperationFailure) else ""
    return getattr(error, "code", None) == UNAUTHORIZED and ("requires authentication" in said or _NO_USERS in said)


_NO_USERS = "no users authenticated"


def hosts_of(connection_string: str) -> str:
    """Return the hosts that a connection string names, for people; without anything secret."""
    scheme, separator, rest = connection_string.partition("://")
    if not separator:  # The driver takes a plain host, too.
        rest = connection_string
    authority = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return f"{authority} (DNS seed list)" if scheme == "mongodb+srv" else authority or "the server"


def hosts_of_client(client: object) -> str:
    """Return the hosts that a client knows, for people; nothing is sent."""
    # Motor's is an attribute; of a driver's client any name that it lacks would be a database.
    native = getattr(client, "__dict__", {}).get("delegate", client)
    topology = native.topology_description if isinstance(native, MongoClient | AsyncMongoClient) else None
    known = () if topology is None else topology.server_descriptions()
    return ", ".join(sorted(f"{host}:{port}" if port else host for host, port in known)) or "the server"


def advice(error: PyMongoError, connection_string: str) -> str | None:
    """Return one sentence on where an error comes from and what to try; None where nothing is known."""
    return advice_for(error, hosts_of(connection_string))


def advice_for(error: PyMongoError, hosts: str) -> str | None:
    """Return what `advice` does, for hosts that are known."""
    code = getattr(error, "code", None)
    if isinstance(error, OperationFailure):
        if code in AUTHENTICATION_CODES:
            return (
                f"MongoDB at {hosts} does not accept the user name or the password; check both, percent-encode special "
                "characters in them, and check authSource (the database in which the user was made, mostly admin)"
            )
        if wants_user(error):
            return (
                f"MongoDB at {hosts} asks for a user; name one in the connection string, as in "
                "mongodb://user:password@host/, and check that the user is still there"
            )
        if code == UNAUTHORIZED:
            return (
                f"the MongoDB user may not do this at {hosts}; it needs the role readWrite on the database of the "
                "sessions"
            )
        return None
    if _is_about_names(error):
        return (
            f"MongoDB does not answer at {hosts}: DNS does not know its servers; check the name in the connection "
            "string, and that this machine's DNS answers"
        )
    if isinstance(error, AutoReconnect):
        return (
            f"MongoDB does not answer at {hosts}; check that it runs, that the address in the connection string "
            "is right, that TLS is on or off on both sides, and that no firewall or IP access list is in between"
        )
    return None


def with_advice(error: PyMongoError, hosts: str) -> PyMongoError:
    """Add what to try to an error, once, as a note below its traceback; its type and text stay the driver's.

    Where there is something to try, the driver's own frames are no help and are left out.
    """
    said = advice_for(error, hosts)
    if said is not None and not _is_told(error):
        error.add_note(f"{_MARK}{said}")
    return brief(error)


def brief(error: PyMongoError) -> PyMongoError:
    """Return an error that says what to try without the frames that it passed so far; others as they are."""
    return error.with_traceback(None) if _is_told(error) else error


def told(error: BaseException) -> str:
    """Return what an error says to try, for a log; empty where it says nothing."""
    notes = (note for note in getattr(error, "__notes__", ()) if note.startswith(_MARK))
    return next(notes, "").removeprefix(_MARK)


_MARK = "What to try: "


def _is_told(error: PyMongoError) -> bool:
    return bool(told(error))
