from hypothesis import settings

# The same examples every time, so that a failure is the change's and not the day's. `--hypothesis-profile=search` looks
# for new ones.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("tests")

# The files that define fixtures or hooks; other helpers (`fix_models`, ...) are imported by the tests that use them.
pytest_plugins = [
    # Before those that import them, or their assertions would not be rewritten.
    "tests.fix_commands",
    "tests.fix_waiting",
    "mongodb_session_manager.testing",
    "pytester",
    "tests.browser.fix_browser",
    "tests.fix_aws",
    "tests.fix_faults",
    "tests.fix_mongo",
    "tests.fix_sessions",
    "tests.fix_skips",
]
