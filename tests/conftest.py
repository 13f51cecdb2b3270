import signal

import pytest
from hypothesis import settings

# The same examples every time, so that a failure is the change's and not the day's. `--hypothesis-profile=search` looks
# for new ones.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("tests")

# A shell lets what it runs in the background ignore Ctrl+C, and so would every program that a test starts and ends so.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before any of them is imported, or a failed assertion in a helper would not say what it compared.
pytest.register_assert_rewrite("tests.fixtures", "tests.support")

pytest_plugins = [
    "mongodb_session_manager.testing",
    "pytester",
    "tests.fixtures.aws",
    "tests.fixtures.browser",
    "tests.fixtures.commands",
    "tests.fixtures.examples",
    "tests.fixtures.faults",
    "tests.fixtures.mongo",
    "tests.fixtures.sessions",
    "tests.fixtures.skips",
    "tests.fixtures.tiers",
    "tests.fixtures.tracing",
    "tests.fixtures.waiting",
]
