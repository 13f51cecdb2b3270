"""Several sessions as one archive."""

from __future__ import annotations

import io
import json
import zipfile

from tests.apps.viewer.conftest import PASSWORD, OpenViewer, Viewer
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions

URL = "/api/v1/sessions/archive"


async def test_an_archive_holds_the_same_files_as_single_exports(viewer: Viewer, sessions: Sessions) -> None:
    ids = ["s-1", "a/b", "a b", "search"]
    sessions.raw.insert_many(session(name, agents={"a": [message("user", f"I am {name}")] * 3}) for name in ids)

    answer = await viewer.client.get(URL, params={"session_id": [*ids, "gone", "s-1"], "format": "jsonl"})

    assert answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as files:
        assert files.testzip() is None
        assert files.namelist() == ["s-1.jsonl", "a-b.jsonl", "a-b-2.jsonl", "search.jsonl", "missing.txt"]
        assert files.read("missing.txt") == b"gone\n"
        single = await viewer.client.get("/api/v1/sessions/s-1/export", params={"format": "jsonl"})
        assert files.read("s-1.jsonl") == single.content
        assert json.loads(files.read("a-b-2.jsonl").splitlines()[0])["session_id"] == "a b"


async def test_an_archive_of_nothing_or_too_much_is_refused(viewer: Viewer) -> None:
    await viewer.get(URL, 422)
    await viewer.get(URL, 404, session_id=["gone"])
    assert "100" in await viewer.problem(URL, session_id=[f"s-{number}" for number in range(101)])


async def test_an_archive_needs_access_to_everything(open_viewer: OpenViewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(session("s-1"))
    async with open_viewer(backend_password=PASSWORD) as viewer:
        for path in (URL, "/api/v1/sessions/totals", "/api/v1/sessions/events"):
            assert (await viewer.client.get(path, params={"session_id": "s-1"})).status_code == 401
            of_session = {"X-Session-Password": sessions.document("s-1")["session_viewer_password"]}
            answer = await viewer.client.get(path, params={"session_id": "s-1"}, headers=of_session)
            assert answer.status_code in (401, 403)
