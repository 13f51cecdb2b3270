"""Message logs of Strands: what `FileSessionManager` and `S3SessionManager` store, one JSON object per message.

::

    session_<id>/session.json
                 agents/agent_<id>/agent.json
                                   messages/message_<n>.json
                 multi_agents/multi_agent_<id>/multi_agent.json
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from ..extras import needs
from .records import (
    UNSTORABLE,
    Document,
    FoundSession,
    Problem,
    Source,
    SourceMessage,
    SourceSession,
    UnreadableSourceError,
    agent_of,
    message_of,
    newest,
)

_AT_ONCE = 64
"""Messages that are read at a time."""

_AGENT = re.compile(r"agents/agent_([^/]*)/")
_MULTI_AGENT = re.compile(r"multi_agents/multi_agent_([^/]*)/")
_MESSAGE = re.compile(r"messages/message_([0-9]+)\.json")


@dataclass
class _Contents:
    """What is in a session's folder.

    Attributes:
        agents: Numbers of the messages, by agent.
        multi_agents: Ids of graphs and swarms.
    """

    agents: dict[str, list[int]] = field(default_factory=dict)
    multi_agents: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, keys: Iterable[str]) -> _Contents:
        """Return what these keys, from the session's folder on, say."""
        contents = cls()
        for key in keys:
            if agent := _AGENT.match(key):
                numbers = contents.agents.setdefault(agent[1], [])
                if message := _MESSAGE.fullmatch(key, agent.end()):
                    numbers.append(int(message[1]))
            elif multi_agent := _MULTI_AGENT.match(key):
                contents.multi_agents.add(multi_agent[1])
        return contents


class _LogSource(Source):
    """Objects under keys, folders by `/`."""

    async def sessions(self) -> AsyncIterator[FoundSession]:
        """Yield its sessions, each once."""
        folders = self._sessions()
        # One by one, in a thread: a store holds any number of sessions, and each may be large.
        while found := await asyncio.to_thread(next, folders, None):
            name, keys = found
            session_id = name.removeprefix("session_")
            yield FoundSession(session_id, partial(asyncio.to_thread, self._read, session_id, keys))

    def _read(self, session_id: str, keys: Iterable[str]) -> SourceSession:
        root, contents = f"session_{session_id}/", _Contents.of(keys)
        record = self._json(f"{root}session.json")
        session = SourceSession(session_id, newest(record.get("created_at")), newest(record.get("updated_at")))
        session.session_type = str(record.get("session_type") or "AGENT")
        for agent_id, numbers in contents.agents.items():
            self._read_agent(session, f"{root}agents/agent_{agent_id}/", agent_id, sorted(numbers))
        for multi_agent_id in sorted(contents.multi_agents):
            key = f"{root}multi_agents/multi_agent_{multi_agent_id}/multi_agent.json"
            try:
                session.multi_agents[multi_agent_id] = self._json(key)
            except UnreadableSourceError as error:
                session.problems.append(Problem(session_id, f"multi-agent {multi_agent_id!r}: {error}"))
        return session

    def _read_agent(self, session: SourceSession, root: str, agent_id: str, numbers: Sequence[int]) -> None:
        try:
            agent = agent_of(self._json(f"{root}agent.json"), agent_id)
        except (UnreadableSourceError, *UNSTORABLE) as error:
            reason = str(error) if isinstance(error, UnreadableSourceError) else "its state cannot be stored"
            session.problems.append(Problem(session.session_id, reason, agent_id))
            agent = agent_of({}, agent_id)
        agent.messages = lambda: self._messages(session.session_id, agent_id, f"{root}messages/", numbers)
        session.agents.append(agent)
        session.updated_at = newest(session.updated_at, agent.fields["updated_at"])

    async def _messages(
        self, session_id: str, agent_id: str, root: str, numbers: Sequence[int]
    ) -> AsyncIterator[SourceMessage | Problem]:
        position = 0
        for start in range(0, len(numbers), _AT_ONCE):
            keys = [f"{root}message_{number}.json" for number in numbers[start : start + _AT_ONCE]]
            for key, found in zip(keys, await asyncio.to_thread(self._many, keys), strict=True):
                if isinstance(found, str):
                    yield Problem(session_id, found, agent_id, key.rpartition("/")[2])
                    continue
                message = message_of(found, session_id, agent_id, position, key.rpartition("/")[2])
                position += isinstance(message, SourceMessage)
                yield message

    def _many(self, keys: Sequence[str]) -> list[Document | str]:
        return [self._json_or_reason(key) for key in keys]

    def _json_or_reason(self, key: str) -> Document | str:
        try:
            return self._json(key)
        except UnreadableSourceError as error:
            return str(error)

    def _json(self, key: str) -> Document:
        data = self._get(key)
        if data is None:
            raise UnreadableSourceError(f"{key.rpartition('/')[2]} is missing")
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise UnreadableSourceError(f"{key.rpartition('/')[2]} is not JSON") from None
        if not isinstance(value, dict):
            raise UnreadableSourceError(f"{key.rpartition('/')[2]} is not a JSON object")
        return value

    @abstractmethod
    def _sessions(self) -> Iterator[tuple[str, Iterable[str]]]:
        """Yield the folders of sessions, and the keys in each, without the folder's own."""

    @abstractmethod
    def _get(self, key: str) -> bytes | None:
        """Return an object, None when there is none."""


class FileSource(_LogSource):
    """The folder of a `FileSessionManager`."""

    kind = "file"

    def __init__(self, storage_dir: str | None = None) -> None:
        """Take the folder; Strands' own default without one.

        Raises:
            ValueError: There is no such folder.
        """
        self._root = storage_dir or os.path.join(tempfile.gettempdir(), "strands", "sessions")
        if not os.path.isdir(self._root):
            raise ValueError(f"invalid storage_dir: it must be a folder, got {self._root!r}")

    async def count(self) -> int | None:
        """Return how many sessions there are."""
        names = await asyncio.to_thread(os.listdir, self._root)
        return sum(name.startswith("session_") for name in names)

    def _sessions(self) -> Iterator[tuple[str, Iterable[str]]]:
        for name in sorted(os.listdir(self._root)):
            if name.startswith("session_") and os.path.isdir(os.path.join(self._root, name)):
                yield name, self._keys(os.path.join(self._root, name))

    def _keys(self, root: str) -> Iterator[str]:
        for folder in ("agents", "multi_agents"):
            for name in self._names(root, folder):
                yield f"{folder}/{name}/"
                yield from (f"{folder}/{name}/messages/{file}" for file in self._names(root, folder, name, "messages"))

    def _names(self, *folder: str) -> list[str]:
        try:
            return sorted(os.listdir(os.path.join(*folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UnreadableSourceError(f"the folder {folder[-1]}: {type(error).__name__}") from None

    def _get(self, key: str) -> bytes | None:
        try:
            with open(os.path.join(self._root, key), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnreadableSourceError(f"{key.rpartition('/')[2]}: {type(error).__name__}") from None


class S3Source(_LogSource):
    """The bucket of an `S3SessionManager`; needs `boto3`, which the extra `aws` brings, unless it is given a client."""

    kind = "s3"

    def __init__(self, bucket: str, prefix: str = "", *, client: Any = None, **options: Any) -> None:
        """Take the bucket and the prefix that the session manager was given.

        Args:
            bucket: Name of the bucket.
            prefix: Prefix of its keys.
            client: A boto3 S3 client; made from `options` (`region_name`, `endpoint_url`, ...) without one.
            **options: Passed on to `boto3.client("s3")`.

        Raises:
            ImportError: boto3 is not installed; it says what to install.
        """
        if client is None:
            with needs("aws"):
                import boto3  # type: ignore[import-untyped]
                from botocore.config import Config

            client = boto3.client("s3", **{"config": Config(max_pool_connections=32), **options})
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="migrate-s3")

    async def close(self) -> None:
        """End the threads that read."""
        self._threads.shutdown(wait=False)

    def _sessions(self) -> Iterator[tuple[str, Iterable[str]]]:
        # All keys are listed once, 1000 at a time: a listing for each session would cost a request each.
        listing = self._client.get_paginator("list_objects_v2")
        pages = listing.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}session_")
        keys = (entry["Key"].removeprefix(self._prefix) for page in pages for entry in page.get("Contents") or ())
        parts = (key.partition("/") for key in keys)
        for name, below in groupby(filter(itemgetter(1), parts), itemgetter(0)):
            yield name, [key for _, _, key in below]

    def _many(self, keys: Sequence[str]) -> list[Document | str]:
        return list(self._threads.map(self._json_or_reason, keys))

    def _get(self, key: str) -> bytes | None:
        try:
            found: bytes = self._client.get_object(Bucket=self._bucket, Key=f"{self._prefix}{key}")["Body"].read()
            return found
        except self._client.exceptions.NoSuchKey:
            return None
