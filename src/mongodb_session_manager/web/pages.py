"""The front end of an app: its page and files, and the files that all apps share."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

SHARED_STATIC = Path(__file__).parent / "static"
SHARED_URL = "/shared"
STATIC_URL = "/static"

_VALIDATED = "no-cache"
"""Kept by browsers, but checked by its ETag before each use: an update of the app shows at once."""


class ValidatedFiles(StaticFiles):
    """Files with an ETag that browsers ask about each time; an unchanged one costs a 304."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or 404."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _VALIDATED
        return response


def install_pages(app: FastAPI, static: Path) -> None:
    """Serve a front end.

    `/` is `index.html` of the folder, `/static/...` its files, `/shared/...` the files that all apps share.

    Args:
        app: The app.
        static: Folder of its front end.
    """
    app.mount(SHARED_URL, ValidatedFiles(directory=SHARED_STATIC, check_dir=False), name="shared")
    app.mount(STATIC_URL, ValidatedFiles(directory=static, check_dir=False), name="static")

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(static / "index.html", headers={"Cache-Control": _VALIDATED})
