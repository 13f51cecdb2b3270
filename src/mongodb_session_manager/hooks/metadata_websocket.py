"""Metadata changes, pushed to the browser behind an Amazon API Gateway WebSocket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..runtime import Outcome, SkippedError
from . import aws_clients
from .metadata_changes import ACTIONS, change_message, checked_fields, region_of
from .notifying import NotifyingHook, check_size
from .stored import StoredSession

CONNECTION_FIELDS = ("connection_id", "ws_connection_id")
"""Metadata fields that may hold the connection, the first that does counts."""

MAX_BYTES = 128 * 1024
"""API Gateway's limit for a message."""

GONE = 410
"""Status of the answer about a connection that is closed."""

_SCHEMES = {"wss": "https", "ws": "http", "https": "https", "http": "http"}


def is_metadata_websocket_hook_available() -> bool:
    """Tell whether what `MetadataWebSocketHook` needs is installed (the extra `aws`)."""
    return aws_clients.is_available()


@dataclass(frozen=True, slots=True)
class _Message:
    data: bytes
    connection: tuple[str, str] | None
    stored: StoredSession


class MetadataWebSocketHook(NotifyingHook[_Message]):
    """A metadata hook that pushes each change through a WebSocket of API Gateway, once it is stored.

    The connection is the metadata field `connection_id` (or `ws_connection_id`) of the update itself, else the stored
    one; API Gateway gives it to your `$connect` handler. Without one nothing is sent, and one that is gone is removed
    from the stored metadata. It is never part of what is pushed.

    A message is JSON, `{"session_id", "event": "metadata_update", "operation": "update" | "delete", "metadata",
    "timestamp"}`. `metadata` holds the fields that changed; those of a deletion are null.

    Use it with `metadata_hook=`. It never delays or fails an operation; see `NotifyingHook`.
    """

    _name: ClassVar[str] = "metadata-websocket"
    _actions: ClassVar[frozenset[str]] = ACTIONS

    def __init__(
        self,
        api_gateway_endpoint: str,
        metadata_fields: Iterable[str] | None = None,
        region: str = "us-east-1",
        *,
        session: Any = None,
        endpoint_url: str | None = None,
        region_name: str | None = None,
    ) -> None:
        """Take the endpoint; nothing is sent.

        Args:
            api_gateway_endpoint: The WebSocket API with its stage, `https://` or `wss://`.
            metadata_fields: Fields of interest; a change of others is not told. None for all.
            region: Region when the endpoint names none.
            session: An `aioboto3.Session` to make the client with; None for one with AWS's usual settings.
            endpoint_url: Address of the service instead of `api_gateway_endpoint`, for tests.
            region_name: Region, whatever the endpoint says.

        Raises:
            ImportError: The extra `aws` is not installed.
            TypeError: `metadata_fields` is a plain string, or the endpoint, the address or a region is no text, or
                the session none of aioboto3.
            ValueError: The endpoint is no such URL.
        """
        aws_clients.require(type(self).__name__)
        aws_clients.check_session(session)
        aws_clients.check_texts(
            api_gateway_endpoint=api_gateway_endpoint, region=region, endpoint_url=endpoint_url, region_name=region_name
        )
        super().__init__()
        url = _https(api_gateway_endpoint)
        self._metadata_fields = checked_fields(metadata_fields)
        self._address = aws_clients.Address(
            "apigatewaymanagementapi", session, region_name or region_of(url) or region, endpoint_url or url
        )

    def _prepare(self, action: str, session_id: str, value: Any, stored: StoredSession) -> tuple[_Message, int] | None:
        data = change_message(action, session_id, value, self._metadata_fields, hidden=CONNECTION_FIELDS)
        if data is None:
            return None
        check_size(len(data), MAX_BYTES, "API Gateway")
        return _Message(data.encode(), _connection(value) if action == "update" else None, stored), len(data)

    async def _send(self, messages: Sequence[_Message]) -> Sequence[Outcome]:
        [message] = messages
        connection = message.connection or _connection(await message.stored.metadata())
        if connection is None:
            return [SkippedError("no connection")]
        field, connection_id = connection
        async with aws_clients.borrowed(self._address) as client:
            try:
                await client.post_to_connection(ConnectionId=connection_id, Data=message.data)
                return [None]
            except client.exceptions.ClientError as error:
                # By its status: what stands between may answer 410 without the service's own error code.
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != GONE:
                    raise
        await message.stored.remove(field, connection_id)
        return [SkippedError("gone")]


def create_metadata_websocket_hook(
    api_gateway_endpoint: str,
    metadata_fields: Iterable[str] | None = None,
    region: str = "us-east-1",
    *,
    session: Any = None,
    endpoint_url: str | None = None,
    region_name: str | None = None,
) -> MetadataWebSocketHook:
    """Return a `MetadataWebSocketHook`, for `metadata_hook=`; the arguments and errors are those of the class."""
    return MetadataWebSocketHook(
        api_gateway_endpoint,
        metadata_fields,
        region,
        session=session,
        endpoint_url=endpoint_url,
        region_name=region_name,
    )


def _connection(metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the field that holds a connection's id, and the id."""
    for field in CONNECTION_FIELDS:
        if isinstance(value := metadata.get(field), str) and value:
            return field, value
    return None


def _https(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(
            "invalid api_gateway_endpoint: it must be a URL such as "
            f'"https://abc123.execute-api.us-east-1.amazonaws.com/prod", got {url!r}'
        )
    return parts._replace(scheme=_SCHEMES[parts.scheme]).geturl()
