"""The pages under test are alone with this machine: no other host is reached, and asking one fails a test."""

from __future__ import annotations

import pytest
from playwright.async_api import Error, Page

from tests.fixtures.browser import Watch


@pytest.mark.parametrize("address", ["http://example.com/", "https://example.com/", "http://192.0.2.1/"])
async def test_no_other_host_is_reached_and_who_asks_one_is_noted(page: Page, watch: Watch, address: str) -> None:
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        await page.goto(address)

    assert watch.unexpected() == [f"request to another host: {address}"]
    watch.allow("request to another host")
