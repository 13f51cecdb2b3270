"""For tests of programs that keep sessions: a pytest plugin, and models that need no network.

In the `conftest.py` at the root of your tests:

```python
pytest_plugins = ["mongodb_session_manager.testing"]
```

The fixtures are in `mongodb_session_manager.testing.plugin`. Runs that do not name the plugin import nothing of it,
and no server starts before a test asks for one. The models and `check_history` work without pytest, too.

PYTEST_DONT_REWRITE
"""

# Not an entry point, which would import the library into every run of everybody who has it installed. And that pytest
# follows this name, instead of an import, lets the models be used where pytest is not installed. The word above keeps
# pytest from warning when a conftest imports a model before the plugin is loaded; there are no assertions here.
from ..offline import OfflineModel
from .histories import HistoryRefusedError, check_history
from .scripted_model import Reply, Scripted, ScriptedModel, blocked, calls

pytest_plugins = ["mongodb_session_manager.testing.plugin"]

__all__ = [
    "HistoryRefusedError",
    "OfflineModel",
    "Reply",
    "Scripted",
    "ScriptedModel",
    "blocked",
    "calls",
    "check_history",
]
