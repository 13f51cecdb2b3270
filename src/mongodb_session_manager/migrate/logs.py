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
import tempfile
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from ..extras import needs
from .records import (
    Document,
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

_LISTED_AT_ONCE = 1000


class _LogSource(Source):
    """Objects under keys, folders by `/`."""

    async def session_ids(self) -> AsyncIterator[str]:
        """Yield the ids of its sessions, each once."""
        names = iter(await asyncio.to_thread(self._folders, ""))
        # Listed page by page, in a thread: a store holds any number of sessions.
        while page := await asyncio.to_thread(lambda: list(islice(names, _LISTED_AT_ONCE))):
            for name in page:
                if name.startswith("session_"):
                    yield name.removeprefix("session_")

    async def read(self, session_id: str) -> SourceSession:
        """Return a session, without its messages."""
        return await asyncio.to_thread(self._read, session_id)

    def _read(self, session_id: str) -> SourceSession:
        root = f"session_{session_id}/"
        record = self._json(f"{root}session.json")
        session = SourceSession(session_id, newest(record.get("created_at")), newest(record.get("updated_at")))
        session.session_type = str(record.get("session_type") or "AGENT")
        for name in self._folders(f"{root}agents/"):
            if name.startswith("agent_"):
                self._read_agent(session, f"{root}agents/{name}/", name.removeprefix("agent_"))
        for name in self._folders(f"{root}multi_agents/"):
            multi_agent_id = name.removeprefix("multi_agent_")
            try:
                session.multi_agents[multi_agent_id] = self._json(f"{root}multi_agents/{name}/multi_agent.json")
            except UnreadableSourceError as error:
                session.problems.append(Problem(session_id, f"multi-agent {multi_agent_id!r}: {error}"))
        return session

    def _read_agent(self, session: SourceSession, root: str, agent_id: str) -> None:
        try:
            agent = agent_of(self._json(f"{root}agent.json"), agent_id)
        except (UnreadableSourceError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, UnreadableSourceError) else "its state cannot be stored"
            session.problems.append(Problem(session.session_id, reason, agent_id))
            agent = agent_of({}, agent_id)
        agent.messages = lambda: self._messages(session.session_id, agent_id, f"{root}messages/")
        session.agents.append(agent)
        session.updated_at = newest(session.updated_at, agent.fields["updated_at"])

    async def _messages(self, session_id: str, agent_id: str, root: str) -> AsyncIterator[SourceMessage | Problem]:
        numbers = await asyncio.to_thread(self._numbers, root)
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

    def _numbers(self, root: str) -> list[int]:
        names = (name.removeprefix("message_").removesuffix(".json") for name in self._files(root))
        return sorted(int(name) for name in names if name.isdecimal())

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
        except ValueError:
            raise UnreadableSourceError(f"{key.rpartition('/')[2]} is not JSON") from None
        if not isinstance(value, dict):
            raise UnreadableSourceError(f"{key.rpartition('/')[2]} is not a JSON object")
        return value

    @abstractmethod
    def _folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders below a prefix, in order."""

    @abstractmethod
    def _files(self, prefix: str) -> Iterator[str]:
        """Yield the names of the objects below a prefix."""

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

    def _folders(self, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(os.path.join(self._root, prefix)) as entries:
                return iter(sorted(entry.name for entry in entries if entry.is_dir()))
        except FileNotFoundError:
            return iter(())

    def _files(self, prefix: str) -> Iterator[str]:
        try:
            return iter(os.listdir(os.path.join(self._root, prefix)))
        except FileNotFoundError:
            return iter(())

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

    def _pages(self, prefix: str) -> Iterator[Any]:
        paginator = self._client.get_paginator("list_objects_v2")
        return iter(paginator.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}", Delimiter="/"))

    def _folders(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix):
            for entry in page.get("CommonPrefixes") or ():
                yield entry["Prefix"].rstrip("/").rpartition("/")[2]

    def _files(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix):
            for entry in page.get("Contents") or ():
                yield entry["Key"].rpartition("/")[2]

    def _many(self, keys: Sequence[str]) -> list[Document | str]:
        return list(self._threads.map(self._json_or_reason, keys))

    def _get(self, key: str) -> bytes | None:
        try:
            found: bytes = self._client.get_object(Bucket=self._bucket, Key=f"{self._prefix}{key}")["Body"].read()
            return found
        except self._client.exceptions.NoSuchKey:
            return None
