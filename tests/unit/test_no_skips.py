from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(_ROOT), str(_ROOT / "src")]))
    return pytester


def test_a_skipped_test_fails_the_run(run: pytest.Pytester) -> None:
    run.makepyfile("import pytest\n@pytest.mark.skip(reason='no server')\ndef test_it(): pass")

    result = run.runpytest_subprocess("-p", "tests.fixtures.skips", "--no-skips")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*was skipped, which --no-skips does not allow: *no server*"])


@pytest.mark.thorough
def test_a_skipped_module_fails_the_run(run: pytest.Pytester) -> None:
    run.makepyfile("import pytest\npytest.importorskip('no_such_module_anywhere')\ndef test_it(): pass")

    result = run.runpytest_subprocess("-p", "tests.fixtures.skips", "--no-skips")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*was skipped, which --no-skips does not allow: *no_such_module_anywhere*"])


@pytest.mark.thorough
def test_an_expected_failure_is_no_skip(run: pytest.Pytester) -> None:
    run.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_it(): assert False")

    result = run.runpytest_subprocess("-p", "tests.fixtures.skips", "--no-skips")

    result.assert_outcomes(xfailed=1)


@pytest.mark.thorough
def test_a_skip_is_allowed_without_the_option(run: pytest.Pytester) -> None:
    run.makepyfile("import pytest\n@pytest.mark.skip\ndef test_it(): pass")

    result = run.runpytest_subprocess("-p", "tests.fixtures.skips")

    result.assert_outcomes(skipped=1)
