"""Tests on the real packages of the extra `clients`; `make test-clients` installs them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

_PACKAGES = ("a2a", "ag_ui_strands", "gevent", "gunicorn", "nest_asyncio", "strands_harness", "uvicorn_worker")

collect_ignore_glob = [] if all(find_spec(name) for name in _PACKAGES) else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.clients)
