"""Session Viewer: search and read stored sessions in a browser or over HTTP.

`python -m mongodb_session_manager.viewer` starts it; `create_app(settings)` gives the ASGI application to serve
in another way.
"""

from ..extras import needs

with needs("viewer"):
    from .app import create_app
    from .settings import ViewerSettings

__all__ = ["ViewerSettings", "create_app"]
