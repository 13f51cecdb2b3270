"""Runs of pytest that use the plugin, as users of the library have them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from typing import Any

import pytest
from pymongo import MongoClient

Document = dict[str, Any]

CONFTEST = 'pytest_plugins = ["mongodb_session_manager.testing"]'


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project whose tests use the plugin and no other, with warnings as errors."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("MONGODB_TEST_URI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\nfilterwarnings = error")
    pytester.makeconftest(CONFTEST)
    return pytester


def _run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


@pytest.mark.thorough
def test_nobody_gets_the_plugin_who_did_not_ask_for_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert not [name for name in sys.modules if name.startswith(("mongodb_session_manager", "pymongo"))]
        """
    )

    result = pytester.runpytest_subprocess()

    result.assert_outcomes(passed=1)
    points = distribution("mongodb-session-manager").entry_points
    assert not [point for point in points if point.group == "pytest11"]


def test_neither_the_library_nor_the_models_need_pytest() -> None:
    program = (
        "import sys; sys.modules['pytest'] = None; import mongodb_session_manager; "
        "assert 'mongodb_session_manager.testing' not in sys.modules; "
        "from mongodb_session_manager.testing import OfflineModel, ScriptedModel; print(ScriptedModel('x').remaining)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("1\n", "")


def test_no_server_starts_before_a_test_asks_for_one_and_unplayed_replies_fail(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import psutil

        def test_it(offline_model, scripted_model):
            assert not psutil.Process().children()
            scripted_model("one", "two")
        """
    )

    result = _run(project)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["mongodb: embedded, when a test asks for it", "2 scripted replies were never asked for"]
    )


@pytest.mark.thorough
def test_the_embedded_server_takes_the_projects_options_and_ends_with_the_run(project: pytest.Pytester) -> None:
    # The import before the plugin is loaded must not draw a warning, either.
    project.makeconftest(
        f"""
        import pytest

        from mongodb_session_manager.testing import ScriptedModel

        {CONFTEST}

        @pytest.fixture(scope="session")
        def mongodb_server_options():
            return {{"topology": "standalone"}}
        """
    )
    project.makepyfile(
        """
        def test_it(mongodb_uri, mongodb_client, session_manager):
            print("uri", mongodb_uri)
            assert "setName" not in mongodb_client.admin.command("hello")
            assert session_manager.check_session_exists()
        """
    )

    result = _run(project, "-s")

    result.assert_outcomes(passed=1)
    uri = result.stdout.str().split("uri ")[1].split()[0]
    with MongoClient[Document](uri, serverSelectionTimeoutMS=1) as client, pytest.raises(Exception, match="refused"):
        client.admin.command("ping")


@pytest.mark.thorough
def test_managers_work_under_anyios_plugin(project: pytest.Pytester, mongodb_uri: str) -> None:
    project.makepyfile(
        """
        import pytest
        from strands import Agent

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_it(async_session_manager, offline_model):
            async with async_session_manager as manager:
                agent = Agent(model=offline_model, session_manager=manager, callback_handler=None)
                await agent.invoke_async("My name is Ada.")
        """
    )

    result = _run(project, "-p", "anyio.pytest_plugin", "--mongodb-uri", mongodb_uri)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["mongodb: given, *"])


@pytest.mark.thorough
def test_databases_are_dropped_even_those_that_are_written_late(project: pytest.Pytester, mongodb_uri: str) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.fixture
        def late(mongodb_client):
            names = []
            yield names
            assert names[0] not in mongodb_client.list_database_names()
            mongodb_client[names[0]].things.insert_one({})

        def test_it(late, mongodb_database):
            mongodb_database.things.insert_one({})
            late.append(mongodb_database.name)
            print("used", mongodb_database.name)
        """
    )

    result = _run(project, "-s", "--mongodb-uri", mongodb_uri)

    result.assert_outcomes(passed=1)
    used = result.stdout.str().split("used ")[1].split()[0]
    with MongoClient[Document](mongodb_uri) as client:
        assert used not in client.list_database_names()


@pytest.mark.thorough
def test_an_unreachable_server_ends_the_run_once(project: pytest.Pytester) -> None:
    project.makepyfile("def test_one(mongodb_uri): pass\ndef test_two(mongodb_uri): pass")

    # Without the header, which checks it otherwise.
    result = _run(project, "-q", "--mongodb-uri", "mongodb://name:secret@127.0.0.1:1/")

    said = result.stdout.str() + result.stderr.str()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said.count("does not answer") == 1
    assert "name:secret" not in said
