"""Metadata changes, sent to an Amazon SQS queue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..runtime import Outcome, error_code
from . import aws_clients
from .metadata_changes import ACTIONS, EVENT, change_message, checked_fields, region_of
from .notifying import NotifyingHook, check_size
from .payloads import accepted_text, fifo_attributes
from .stored import StoredSession

MAX_BYTES = 1024 * 1024
"""SQS's limit for a message with its attributes. A queue may have a lower one, which the service enforces."""

_BATCH_TOO_LONG = "BatchRequestTooLong"


def is_metadata_sqs_hook_available() -> bool:
    """Tell whether what `MetadataSQSHook` needs is installed (the extra `aws`)."""
    return aws_clients.is_available()


class MetadataSQSHook(NotifyingHook[dict[str, Any]]):
    """A metadata hook that sends each change to an SQS queue, once it is stored.

    A message is JSON, `{"session_id", "event": "metadata_update", "operation": "update" | "delete", "metadata",
    "timestamp"}`, with the attributes `session_id` and `event`. `metadata` holds the fields that changed; those of a
    deletion are null. A FIFO queue gets the session as its message group, so it keeps a session's order.

    Use it with `metadata_hook=`. It never delays or fails an operation; see `NotifyingHook`.
    """

    _name: ClassVar[str] = "metadata-sqs"
    _actions: ClassVar[frozenset[str]] = ACTIONS
    _most: ClassVar[int] = 10
    _most_bytes: ClassVar[int] = MAX_BYTES

    def __init__(
        self,
        queue_url: str,
        metadata_fields: Iterable[str] | None = None,
        *,
        session: Any = None,
        endpoint_url: str | None = None,
        region_name: str | None = None,
    ) -> None:
        """Take the queue; nothing is sent.

        Args:
            queue_url: URL of the queue; one that ends in `.fifo` is a FIFO queue.
            metadata_fields: Fields of interest; a change of others is not told. None for all.
            session: An `aioboto3.Session` to make the client with; None for one with AWS's usual settings.
            endpoint_url: Address of the service, for another than AWS's own.
            region_name: Region; None takes the queue URL's, or the session's when that names none.

        Raises:
            ImportError: The extra `aws` is not installed.
            TypeError: `metadata_fields` is a plain string, or the queue URL, the address or the region is no text, or
                the session none of aioboto3.
            ValueError: The queue URL is none.
        """
        aws_clients.require(type(self).__name__)
        aws_clients.check_session(session)
        aws_clients.check_texts(queue_url=queue_url, endpoint_url=endpoint_url, region_name=region_name)
        super().__init__()
        parts = urlsplit(queue_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"invalid queue_url: it must be the URL of a queue, such as "
                f'"https://sqs.eu-west-1.amazonaws.com/123456789012/changes", got {queue_url!r}'
            )
        self._queue_url, self._is_fifo = queue_url, parts.path.endswith(".fifo")
        self._metadata_fields = checked_fields(metadata_fields)
        self._address = aws_clients.Address("sqs", session, region_name or region_of(queue_url), endpoint_url)

    def _prepare(
        self, action: str, session_id: str, value: Any, stored: StoredSession
    ) -> tuple[dict[str, Any], int] | None:
        body = change_message(action, session_id, value, self._metadata_fields)
        if body is None:
            return None
        texts = {"session_id": accepted_text(session_id), "event": EVENT}
        size = len(body) + sum(len(f"{name}String{text}".encode()) for name, text in texts.items())
        check_size(size, MAX_BYTES, "SQS")
        message: dict[str, Any] = {
            "MessageBody": body,
            "MessageAttributes": {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()},
        }
        if self._is_fifo:
            message |= fifo_attributes(session_id)
        return message, size

    async def _send(self, messages: Sequence[dict[str, Any]]) -> Sequence[Outcome]:
        async with aws_clients.borrowed(self._address) as client:
            if len(messages) == 1:
                await client.send_message(QueueUrl=self._queue_url, **messages[0])
                return [None]
            outcomes: dict[int, Outcome] = dict.fromkeys(range(len(messages)))
            waiting = list(outcomes)
            # The client sends a refused call again, but not the refused part of one that was accepted.
            for _ in range(aws_clients.ATTEMPTS):
                entries = [{"Id": str(number), **messages[number]} for number in waiting]
                try:
                    answer = await client.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
                except Exception as error:
                    # Those that an earlier call has sent are sent.
                    outcomes |= dict.fromkeys(waiting, error)
                    if (error_code(error) or "").endswith(_BATCH_TOO_LONG):
                        # A service with a lower limit than `MAX_BYTES`, which each of them may be within.
                        outcomes |= {number: await self._alone(client, messages[number]) for number in waiting}
                    break
                refused = {int(entry["Id"]): entry for entry in answer.get("Failed", [])}
                outcomes |= {number: _RefusedError(entry["Code"]) for number, entry in refused.items()}
                outcomes |= {number: None for number in waiting if number not in refused}
                waiting = [number for number in waiting if number in refused and not refused[number]["SenderFault"]]
                if not waiting:
                    break
            return list(outcomes.values())

    async def _alone(self, client: Any, message: dict[str, Any]) -> Outcome:
        try:
            await client.send_message(QueueUrl=self._queue_url, **message)
        except Exception as error:
            return error
        return None


class _RefusedError(Exception):
    """SQS refused one message of several."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


def create_metadata_sqs_hook(
    queue_url: str,
    metadata_fields: Iterable[str] | None = None,
    *,
    session: Any = None,
    endpoint_url: str | None = None,
    region_name: str | None = None,
) -> MetadataSQSHook:
    """Return a `MetadataSQSHook`, for `metadata_hook=`; the arguments and errors are those of the class."""
    return MetadataSQSHook(
        queue_url, metadata_fields, session=session, endpoint_url=endpoint_url, region_name=region_name
    )
