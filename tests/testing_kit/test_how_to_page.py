from __future__ import annotations

import pytest

from tests.docs.blocks import DOCS, all_blocks

PAGE = "how-to/testing.md"


def test_the_tests_of_the_how_to_page_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mongodb_uri: str
) -> None:
    conftest, *tests = [block.code for block in all_blocks() if block.page.endswith(PAGE)]
    pytester.makeconftest(conftest)
    for number, code in enumerate(tests):
        pytester.makepyfile(**{f"test_{number}": code})
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    expected = sum(code.count("def test_") for code in tests)

    result = pytester.runpytest_subprocess("-p", "pytest_asyncio.plugin", "--mongodb-uri", mongodb_uri)

    assert (DOCS / PAGE).exists()
    assert expected >= 5
    result.assert_outcomes(passed=expected)
