"""Sessions as other session managers store them, and a process that migrates them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pymongo import MongoClient
from strands.storage import LocalFileStorage

from mongodb_session_manager import AsyncMongoDBSessionRepository
from mongodb_session_manager.migrate import (
    FileSource,
    MessageDocumentSource,
    OlderDocumentSource,
    Progress,
    S3Source,
    SnapshotSource,
    Source,
    migrate,
)

Document = dict[str, Any]

AGENT = "support"
DATE = "2024-05-01T10:00:00.123000+00:00"
COUNT = 4


def said(session: str, number: int) -> Document:
    """Return Strands' record of a message, as JSON can hold it."""
    role = "assistant" if number % 2 else "user"
    text = f"{session} says {number}"
    message: Document = {"role": role, "content": [{"text": text}], "tracking_id": f"{session}-{number}"}
    if number % 2:
        message["metadata"] = {"usage": {"inputTokens": 2, "outputTokens": 1, "totalTokens": 3}}
    else:
        data = {"__bytes_encoded__": True, "data": "YWJj"}
        message["content"].append({"image": {"format": "png", "source": {"bytes": data}}})
    return {
        "message": message,
        "message_id": number,
        "redact_message": None,
        "created_at": f"2024-05-01T10:{number:02}:00.123456+00:00",
        "updated_at": f"2024-05-01T10:{number:02}:00.123456+00:00",
    }


def agent_record() -> Document:
    return {
        "agent_id": AGENT,
        "state": {"a.b": {"$c": 1}},
        "conversation_manager_state": {"__name__": "SlidingWindowConversationManager", "removed_message_count": 0},
        "_internal_state": {},
        "created_at": DATE,
        "updated_at": DATE,
    }


def log_objects(session: str, count: int = COUNT) -> dict[str, Document]:
    """Return what a message log of Strands consists of, by key."""
    root = f"session_{session}"
    agent = f"{root}/agents/agent_{AGENT}"
    return {
        f"{root}/session.json": {
            "session_id": session,
            "session_type": "AGENT",
            "created_at": DATE,
            "updated_at": DATE,
        },
        f"{agent}/agent.json": agent_record(),
        **{f"{agent}/messages/message_{n}.json": said(session, n) for n in range(count)},
    }


def write_files(root: str, sessions: Iterable[str]) -> None:
    for session in sessions:
        for key, value in log_objects(session).items():
            path = os.path.join(root, key)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                json.dump(value, file)


def write_s3(client: Any, bucket: str, sessions: Iterable[str]) -> None:
    def put(session: str) -> None:
        for key, value in log_objects(session).items():
            client.put_object(Bucket=bucket, Key=f"chats/{key}", Body=json.dumps(value).encode())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, sessions))


def write_snapshots(root: str, sessions: Iterable[str]) -> None:
    async def write() -> None:
        storage = LocalFileStorage(root)
        for session in sessions:
            record = agent_record()
            snapshot = {
                "scope": "agent",
                "schema_version": "1.0",
                "created_at": DATE,
                "app_data": {},
                "data": {
                    "messages": [said(session, n)["message"] for n in range(COUNT)],
                    "state": record["state"],
                    "conversation_manager_state": record["conversation_manager_state"],
                    "interrupt_state": {"interrupts": {}, "context": {}, "activated": False},
                },
            }
            key = f"session/{session}/scopes/agent/{AGENT}/snapshots/snapshot_latest.json"
            await storage.write(key, json.dumps(snapshot).encode())

    # In a thread of its own, since the caller may have a loop.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, write()).result()


def older_document(session: str) -> Document:
    messages = [
        {**said(session, n), "event_loop_metrics": {"accumulated_usage": {"totalTokens": 3 * (n // 2 + 1)}}}
        if n % 2
        else said(session, n)
        for n in range(COUNT)
    ]
    agent = {"agent_data": agent_record(), "messages": messages, "created_at": DATE, "updated_at": DATE}
    return {
        "_id": session,
        "session_id": session,
        "session_type": "default",
        "created_at": DATE,
        "updated_at": DATE,
        "metadata": {"topic": "weather"},
        "feedbacks": [{"rating": "up", "created_at": DATE}],
        "agents": {AGENT: agent},
    }


def message_documents(session: str, count: int = COUNT) -> list[Document]:
    meta = {"session_id": session, "session_type": "AGENT", "created_at": DATE, "updated_at": DATE}
    pk = f"SESSION#{session}"
    return [
        {"pk": pk, "sk": "META", "data": json.dumps(meta)},
        {"pk": pk, "sk": f"AGENT#{AGENT}", "data": json.dumps(agent_record())},
        *(
            {"pk": f"{pk}#AGENT#{AGENT}", "sk": f"MSG#{n:020}", "data": json.dumps(said(session, n))}
            for n in range(count)
        ),
    ]


def write_documents(uri: str, database: str, kind: str, sessions: Iterable[str]) -> None:
    with MongoClient[Document](uri) as client:
        collection = client[database][f"source {kind}"]
        batch: list[Document] = []
        for session in sessions:
            batch += [older_document(session)] if kind == "documents" else message_documents(session)
            if len(batch) > 1000:
                collection.insert_many(batch)
                batch = []
        if batch:
            collection.insert_many(batch)
        if kind == "messages":
            collection.create_index([("pk", 1), ("sk", 1)], unique=True)


def source_of(kind: str, place: str, database: str) -> Source:
    """Return a source: `place` is a folder, a connection string or the URL of S3."""
    if kind == "file":
        return FileSource(place)
    if kind == "snapshots":
        return SnapshotSource(LocalFileStorage(place))
    if kind == "s3":
        options = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        return S3Source(database.replace("_", "-"), "chats", endpoint_url=place, **options)
    if kind == "documents":
        return OlderDocumentSource(place, database, "source documents")
    return MessageDocumentSource(place, database, "source messages")


async def work(kind: str, place: str, uri: str, database: str) -> None:
    """Migrate, and print how far it is."""

    def tell(progress: Progress) -> None:
        sys.stdout.write(f"{progress.done}\n")
        sys.stdout.flush()

    source = source_of(kind, place, database)
    async with AsyncMongoDBSessionRepository(uri, database, "sessions") as target:
        report = await migrate(source, target, dry_run=False, progress=tell)
    await source.close()
    counts = (report.migrated, report.present, report.failed, report.messages, report.problem_count)
    sys.stdout.write(f"report {' '.join(map(str, counts))}\n")


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:5]))
