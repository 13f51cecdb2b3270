from __future__ import annotations

import base64
import io
import struct
import threading
import zipfile
from typing import Any

import pytest

from mongodb_session_manager.playground.agent import AGENT_ID
from mongodb_session_manager.playground.attachments import MOST_BYTES, content_blocks
from mongodb_session_manager.playground.routes import chat
from tests.apps.playground.servers import playground, said
from tests.apps.served import app_of
from tests.apps.viewer.conftest import client_of
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions
from tests.support.models import ScriptedModel

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
SAMPLES = {
    "png": PNG,
    "jpeg": b"\xff\xd8\xff\xe0" + b"\0" * 9,
    "gif": b"GIF89a" + b"\0" * 9,
    "webp": b"RIFF\x10\0\0\0WEBPVP8 " + b"\0" * 9,
}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _zip(*members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            archive.writestr(member, "x")
    return file.getvalue()


@pytest.mark.parametrize(("format_", "data"), SAMPLES.items())
def test_an_image_is_known_by_its_content_whatever_it_is_called(format_: str, data: bytes) -> None:
    [block] = content_blocks([("holiday.pdf", _text(data))])

    assert block == {"image": {"format": format_, "source": {"bytes": data}}}


@pytest.mark.parametrize(
    ("name", "data", "format_", "title"),
    [
        ("Report 2026.pdf", b"%PDF-1.7 ...", "pdf", "Report 2026"),
        ("notes.md", b"# Notes", "md", "notes"),
        ("table.csv", "a,b\n1,\u00fc".encode(), "csv", "table"),
        ("page.HTM", b"<p>x</p>", "html", "page"),
        ("main.rs", b"fn main() {}", "txt", "main"),
        ("C:\\files\\x__y.docx", _zip("word/document.xml"), "docx", "x y"),
        ("book.xlsx", _zip("xl/workbook.xml"), "xlsx", "book"),
        ("\u0444\u0430\u0439\u043b.txt", b"x", "txt", "document"),
    ],
)
def test_a_document_has_a_format_and_a_name_that_models_take(name: str, data: bytes, format_: str, title: str) -> None:
    [block] = content_blocks([(name, _text(data))])

    assert block == {"document": {"format": format_, "name": title, "source": {"bytes": data}}}


def test_two_documents_of_one_name_are_told_apart() -> None:
    blocks = content_blocks([("a.txt", _text(b"1")), ("a.md", _text(b"2")), ("a.csv", _text(b"3"))])

    assert [block["document"]["name"] for block in blocks] == ["a", "a (2)", "a (3)"]


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("x.png", _text(b"not an image\0"), "or other text"),
        ("x.png", _text(b"only text"), "or other text"),
        ("program.exe", _text(b"MZ\0\0"), "or other text"),
        ("x.txt", _text(b"\xff\xfe\xfa"), "or other text"),
        ("x.docx", _text(_zip("evil.txt")), "or other text"),
        ("x.docx", _text(b"PK\x03\x04broken"), "or other text"),
        ("x.txt", "", "empty"),
        ("x.txt", "%%%", "base64"),
        ("x.txt", "eA==\n", "base64"),
        ("x.txt", "\u00e4\u00e4\u00e4\u00e4", "base64"),
        ("x.txt", _text(b"x" * (MOST_BYTES + 1)), "at most"),
        ("x.txt", "eHh4" * MOST_BYTES, "at most"),
    ],
)
def test_what_no_model_takes_is_refused_by_name(name: str, data: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        content_blocks([(name, data)])

    assert repr(name) in str(refused.value)


def test_an_archive_of_very_many_members_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[int] = []
    namelist = zipfile.ZipFile.namelist

    def counted(archive: zipfile.ZipFile) -> list[str]:
        found = namelist(archive)
        listed.append(len(found))
        return found

    monkeypatch.setattr(zipfile.ZipFile, "namelist", counted)
    for members in (1_000, 60_000):
        # Written by hand: a member takes 47 bytes here, and each becomes an object.
        header = struct.pack("<4s4B4H3L5H2L", b"PK\x01\x02", 20, 0, 20, 0, *[0] * 7, 1, *[0] * 6)
        start = b"PK\x03\x04" + b"\0" * 26
        count, size = min(members, 65_535), members * (len(header) + 1)
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, len(start), 0)
        content = start + (header + b"a") * members + end
        with pytest.raises(ValueError, match="it must be png"):
            content_blocks([("a.docx", base64.b64encode(content).decode())])

    assert listed == [1_000]


async def test_files_are_looked_at_beside_the_event_loop(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def looked_at(files: Any) -> Any:
        threads.append(threading.current_thread())
        return content_blocks(files)

    monkeypatch.setattr(chat, "content_blocks", looked_at)
    async with playground(sessions, ScriptedModel("A cat.")) as app:
        files = [{"name": "a.txt", "data": _text(b"hi")}]
        await app.client.post("/api/chat", json={"session_id": "s-1", "message": "Hi", "attachments": files})

    assert threads
    assert threading.main_thread() not in threads


def test_all_files_together_are_bounded() -> None:
    with pytest.raises(ValueError, match="together"):
        content_blocks((f"{number}.txt", _text(b"x" * 2_500_000)) for number in range(3))


async def test_an_image_and_a_document_reach_the_model_and_come_back(sessions: Sessions) -> None:
    model = ScriptedModel("A cat.", "Yes.")
    photo = PNG + b"\1" * 300_000
    files = [{"name": "cat.png", "data": _text(photo)}, {"name": "a b.csv", "data": _text(b"<script>,1")}]
    body = {"session_id": "s-1", "message": "What is it?", "attachments": files}
    async with playground(sessions, model) as app:
        await app.client.post("/api/chat", json=body)
        shown = await app.read("s-1")
        image = await app.client.get("/api/sessions/s-1/messages/0/files/1")
        document = await app.client.get("/api/sessions/s-1/messages/0/files/2")
        paths = (
            "s-1/messages/0/files/0",
            "s-1/messages/0/files/9",
            "s-1/messages/7/files/1",
            "nobody/messages/0/files/1",
        )
        missing = [(await app.client.get(f"/api/sessions/{path}")).status_code for path in paths]
        again = await app.chat("s-1", "Sure?")

    sent: list[Any] = [*model.requests[0][0]["content"]]
    assert sent == [*model.requests[1][0]["content"]]
    assert sent[1]["image"]["source"]["bytes"] == photo
    assert shown["messages"][0]["blocks"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "format": "png", "size": len(photo)},
        {"type": "document", "format": "csv", "name": "a b", "size": 10},
    ]
    assert (image.headers["content-type"], image.content) == ("image/png", photo)
    assert (document.headers["content-type"], document.content) == ("application/octet-stream", b"<script>,1")
    assert document.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.csv"
    assert missing == [404] * 4
    assert said(again) == "Yes."


async def test_an_image_needs_no_words_and_a_document_does(sessions: Sessions) -> None:
    async with playground(sessions, ScriptedModel("Nice.")) as app:
        answers = {
            name: await app.client.post(
                "/api/chat",
                json={"session_id": "s-1", "message": "", "attachments": [{"name": name, "data": _text(data)}]},
            )
            for name, data in (("a.png", PNG), ("a.txt", b"x"))
        }
        bad = [
            await app.client.post("/api/chat", json={"session_id": "s-2", "message": "Hi", "attachments": attachments})
            for attachments in (
                [{"name": "a"}],
                [{"name": "", "data": "eA=="}],
                [{"name": "a.exe", "data": "TVoAAA=="}],
                [{"name": f"{n}.txt", "data": "eA=="} for n in range(9)],
            )
        ]

    assert {name: answer.status_code for name, answer in answers.items()} == {"a.png": 200, "a.txt": 422}
    assert [answer.status_code for answer in bad] == [422] * 4
    assert sessions.messages(AGENT_ID, "s-1")[0]["content"][0].keys() == {"image"}
    assert sessions.raw.count_documents({}) == 1


@pytest.mark.parametrize(
    ("name", "format_"),
    [("\ud800", "pdf"), ("notes", "\udfff"), ("a\r\nX-Other: b", "txt"), ("n" * 100_000, "txt"), ("", "")],
)
async def test_a_document_with_a_name_of_another_program_can_be_had(
    sessions: Sessions, name: str, format_: str
) -> None:
    document = {"document": {"name": name, "format": format_, "source": {"bytes": b"text"}}}
    agents = {AGENT_ID: [message("user", [document])]}
    sessions.raw.insert_one(session("s-1", application_name="playground", agents=agents))
    app = app_of("playground", sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        answer = await client.get("/api/sessions/s-1/messages/0/files/0")

    assert (answer.status_code, answer.content) == (200, b"text")
    assert answer.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''")
    assert len(answer.headers["Content-Disposition"]) < 2_000
    assert "X-Other" not in answer.headers
