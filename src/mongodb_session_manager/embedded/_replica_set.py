"""Makes running `mongod` processes a replica set and tells when it can be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from ._credentials import USER, Credentials

REPLICA_SET = "rs0"

_NOT_YET_INITIALIZED = 94
_USER_EXISTS = 51003
_PROBE_TIMEOUT_MS = 2000


class Probe:
    """A short-lived connection to one server, whatever its role; never to the whole set.

    Args:
        port: The server's.
        credentials: What it was started with, None for a server that lets every client in.
    """

    def __init__(self, port: int, credentials: Credentials | None) -> None:
        # The server knows itself by its key, before there is any user.
        known: dict[str, Any] = {}
        if credentials is not None:
            known = {"username": "__system", "password": credentials.key, "authSource": "local"}
        self._client: MongoClient[dict[str, Any]] = MongoClient(
            "127.0.0.1",
            port,
            directConnection=True,
            connect=False,
            appname="embedded-server",
            connectTimeoutMS=_PROBE_TIMEOUT_MS,
            serverSelectionTimeoutMS=_PROBE_TIMEOUT_MS,
            socketTimeoutMS=_PROBE_TIMEOUT_MS,
            maxPoolSize=1,
            **known,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def role(self) -> str | None:
        """Return "primary", "secondary" or, when it is neither or does not answer, None."""
        try:
            hello = self._client.admin.command("hello")
        except PyMongoError:
            return None
        if hello.get("isWritablePrimary"):
            return "primary"
        return "secondary" if hello.get("secondary") else None

    def form(self, ports: Sequence[int], election_timeout_ms: int | None) -> None:
        """Make the servers at `ports` one set: a new one, or the one whose data they have.

        A set that was stored remembers the ports of its last run, so its members get their new addresses by force: none
        of them is reachable at the old one to vote.
        """
        members = [{"_id": index, "host": f"127.0.0.1:{port}"} for index, port in enumerate(ports)]
        settings = {} if election_timeout_ms is None else {"electionTimeoutMillis": election_timeout_ms}
        stored = self._stored_config()
        if stored is None:
            config: dict[str, Any] = {"_id": REPLICA_SET, "members": members, "settings": settings}
            self._client.admin.command("replSetInitiate", config)
        elif [member["host"] for member in stored["members"]] != [member["host"] for member in members]:
            settings = {**stored["settings"], **settings}
            config = {**stored, "members": members, "settings": settings, "version": stored["version"] + 1}
            config.pop("term", None)
            self._client.admin.command("replSetReconfig", config, force=True)

    def add_user(self, credentials: Credentials, members: int) -> None:
        """Make the user of a new server, or give that of stored data its new password; on the primary, for all members.

        Args:
            credentials: The user's.
            members: Servers that must know it before a client uses it.
        """
        concern: dict[str, Any] = {"w": members, "wtimeout": _PROBE_TIMEOUT_MS * 5} if members > 1 else {"w": 1}
        fields = {"pwd": credentials.password, "roles": ["root"], "writeConcern": concern}
        try:
            self._client.admin.command({"createUser": USER, **fields})
        except OperationFailure as error:
            if error.code != _USER_EXISTS:
                raise
            self._client.admin.command({"updateUser": USER, **fields})

    def _stored_config(self) -> Mapping[str, Any] | None:
        try:
            answer = self._client.admin.command("replSetGetConfig")
        except OperationFailure as error:
            if error.code == _NOT_YET_INITIALIZED:
                return None
            raise
        config: Mapping[str, Any] = answer["config"]
        return config
