from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from tests.contract.drivers import ON_A_SERVER, Driver, mock


@pytest.fixture(scope="session")
def contract_database(mongo_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """One database for the whole suite; each test has a collection of its own in it."""
    name = f"msm_contract_{uuid4().hex[:12]}"
    yield name
    mongo_client.drop_database(name)


MOCK = "mock"
SYNC = "sync-facade"


def _drivers(*, without: str = "") -> list[Any]:
    on_a_server = [pytest.param(name, marks=pytest.mark.server) for name in ON_A_SERVER if name != without]
    return [*on_a_server, MOCK]


@asynccontextmanager
async def _opened(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    opened: AbstractAsyncContextManager[Driver]
    if request.param == MOCK:
        opened = mock("contract")
    else:
        uri: str = request.getfixturevalue("mongo_uri")
        opened = ON_A_SERVER[request.param](uri, request.getfixturevalue("contract_database"))
    async with opened as driver:
        yield driver
        await driver.aclose()


@pytest.fixture(params=_drivers())
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    async with _opened(request) as driver:
        yield driver


@pytest.fixture(params=_drivers(without=SYNC))
async def async_driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    """For what only the async face has: opening is a step of its own."""
    async with _opened(request) as driver:
        yield driver
