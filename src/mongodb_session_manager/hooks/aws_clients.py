"""AWS clients for the notification hooks: made once, shared by hooks with equal settings, and closed at exit.

They live on the library's own event loop. Making one reads about 0.2 s worth of service descriptions from disk and, the
first time, imports aioboto3; both happen in a worker thread.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread

from .. import runtime
from ..extras import missing
from ..runtime.cancellation import outcome_of

EXTRA = "aws"

KEEP_IDLE_S = 300.0
"""How long a client stays open without being used, in seconds."""

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 10
ATTEMPTS = 3


def is_available() -> bool:
    """Tell whether aioboto3 is installed, without importing it."""
    try:
        return importlib.util.find_spec("aioboto3") is not None
    except ImportError:  # as an import hook that keeps it out says it
        return False


def require(what: str) -> None:
    """Raise an ImportError that names the extra when aioboto3 is not installed."""
    if not is_available():
        raise missing(EXTRA, "aioboto3", what)


def check_texts(**arguments: object) -> None:
    """Refuse an argument of a hook that is neither text nor None.

    Raises:
        TypeError: It is something else.
    """
    for name, value in arguments.items():
        if value is not None and not isinstance(value, str):
            raise TypeError(f"invalid {name}: it must be text, not {type(value).__name__}")


def check_session(session: object) -> None:
    """Refuse what makes no clients for an event loop, where a hook takes an aioboto3 session.

    Raises:
        TypeError: It is something else, such as a session of boto3.
    """
    if session is None:
        return
    kind = type(session)
    # By its name: boto3's class is the base of aioboto3's.
    is_boto3 = kind.__module__.startswith("boto3.")
    if is_boto3 or isinstance(session, type) or not callable(getattr(session, "client", None)):
        raise TypeError(f"invalid session: it must be an aioboto3.Session, not {kind.__module__}.{kind.__qualname__}")


@dataclass(frozen=True, slots=True)
class Address:
    """Which client a hook needs.

    Attributes:
        service: Name of the service, as aioboto3 knows it.
        session: The user's aioboto3 session; None for one of the library.
        region_name: None leaves it to the session.
        endpoint_url: None leaves it to the session.
    """

    service: str
    session: Any
    region_name: str | None
    endpoint_url: str | None

    @property
    def key(self) -> tuple[str, int, str | None, str | None]:
        """What is equal for addresses that can share a client; the address keeps its session alive."""
        return self.service, id(self.session), self.region_name, self.endpoint_url


@dataclass(eq=False, slots=True)
class _Shared:
    address: Address
    client: asyncio.Task[Any]
    stack: AsyncExitStack
    users: int = 0
    last_used: float = field(default=0)


class _Clients:
    """The clients of this process; touched on the library's loop only."""

    def __init__(self) -> None:
        self.shared: dict[tuple[str, int, str | None, str | None], _Shared] = {}
        self.own_session: Any = None
        self.preparing = asyncio.Lock()


_clients = _Clients()


@asynccontextmanager
async def borrowed(address: Address) -> AsyncIterator[Any]:
    """Give a client for a moment; only on the library's loop."""
    now = asyncio.get_running_loop().time()
    await _close_idle(now)
    shared = _clients.shared.get(address.key)
    if shared is None or (shared.client.done() and (shared.client.cancelled() or shared.client.exception())):
        stack = AsyncExitStack()
        # A task of its own: the first caller may give up waiting while others still want the client.
        client = asyncio.create_task(_make(address, stack), name=f"aws-client:{address.service}")
        shared = _clients.shared[address.key] = _Shared(address, client, stack)
        runtime.close_at_exit(close_all)
    shared.users += 1
    try:
        yield await outcome_of(shared.client)
    finally:
        shared.users -= 1
        shared.last_used = asyncio.get_running_loop().time()


async def _make(address: Address, stack: AsyncExitStack) -> Any:
    # Importing takes seconds on a slow machine, which is no reason to drop what waits for it.
    with runtime.preparing():
        async with _clients.preparing:
            session, config = await to_thread.run_sync(_prepare, address)
    making = session.client(
        address.service, region_name=address.region_name, endpoint_url=address.endpoint_url, config=config
    )
    return await stack.enter_async_context(making)


def _prepare(address: Address) -> tuple[Any, Any]:
    """Import, and read from disk what making a client would otherwise read while it holds up the loop."""
    aioboto3 = importlib.import_module("aioboto3")
    config = importlib.import_module("aiobotocore.config").AioConfig(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=runtime.MAX_IN_FLIGHT,
    )
    session = address.session
    if session is None:
        if _clients.own_session is None:
            _clients.own_session = aioboto3.Session()
        session = _clients.own_session
    core = getattr(session, "_session", None)
    if core is not None:  # an aioboto3 session; anything else that has `client()` makes its clients in its own way
        loader = core.get_component("data_loader")
        for kind in ("service-2", "endpoint-rule-set-1"):
            loader.load_service_model(address.service, kind)
        for name in ("endpoints", "partitions", "sdk-default-configuration"):
            loader.load_data(name)
    return session, config


async def _close_idle(now: float) -> None:
    idle = [key for key, shared in _clients.shared.items() if not shared.users and shared.last_used < now - KEEP_IDLE_S]
    await _close(*(_clients.shared.pop(key) for key in idle))


async def close_all() -> None:
    """Close every client; only on the library's loop."""
    everything = list(_clients.shared.values())
    _clients.shared.clear()
    await _close(*everything)


async def _close(*several: _Shared) -> None:
    for shared in several:
        if not shared.client.done():
            shared.client.cancel()
            await asyncio.wait([shared.client])
        await shared.stack.aclose()


def _after_fork_in_child() -> None:
    # The parent's clients, their sockets and their loop are not the child's; closing them here would disturb it.
    _inherited.append(_clients.shared)
    _clients.__init__()  # type: ignore[misc]


_inherited: list[object] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
