"""Chat playground: try a stored conversation in a minute.

```bash
python -m mongodb_session_manager.playground
```

Needs the extra `playground`. `create_app(settings)` makes the ASGI app for a server of your own.
"""

from ..extras import needs

with needs("playground"):
    from .app import create_app
    from .settings import PlaygroundSettings

__all__ = ["PlaygroundSettings", "create_app"]
