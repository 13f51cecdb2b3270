"""What the web apps share: one way to be secure, to report errors, to stream events and to start.

```python
app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
install_errors(app)
install_pages(app, Path(__file__).parent / "static")
install_security(app, Policy(open_to_loopback_only=True))
```
"""

from ..flags import read_settings, run_command, settings_command, settings_problems
from .attempts import AttemptLimiter, TargetLimiter
from .binding import check_binding, is_loopback
from .databases import mongodb_server
from .errors import ApiError, ErrorBody, install_errors, invalid
from .event_streams import EventStream, ServerSentEvent, Stopping, event_frame
from .inputs import Input
from .pages import install_pages
from .security import Policy, install_security, parse_hosts, parse_origins
from .server import run

__all__ = [
    "ApiError",
    "AttemptLimiter",
    "ErrorBody",
    "EventStream",
    "Input",
    "Policy",
    "ServerSentEvent",
    "Stopping",
    "TargetLimiter",
    "check_binding",
    "event_frame",
    "install_errors",
    "install_pages",
    "install_security",
    "invalid",
    "is_loopback",
    "mongodb_server",
    "parse_hosts",
    "parse_origins",
    "read_settings",
    "run",
    "run_command",
    "settings_command",
    "settings_problems",
]
