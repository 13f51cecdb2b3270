"""Searching finds a text in whichever of Unicode's equivalent forms it is stored."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongodb_session_manager.playground.agent import AGENT_ID
from mongodb_session_manager.web.unicode_forms import any_form
from tests.apps.served import app_of
from tests.apps.viewer.conftest import client_of, running, settings_for
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions

WORDS = ["café", "Ångström", "phở Việt", "한국어", "ñandú", "q\u0323\u0307", "Ω"]
Form = Literal["NFC", "NFD"]
FORMS: tuple[Form, Form] = ("NFC", "NFD")


@pytest.mark.thorough
@given(
    st.text(
        alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("eéếa\u0301\u0302\u0323Å\u212b한")),
        max_size=12,
    )
)
def test_every_equivalent_form_is_found_and_nothing_is_a_pattern(text: str) -> None:
    pattern = re.compile(any_form(text), re.I)

    for form in FORMS:
        assert pattern.fullmatch(unicodedata.normalize(form, text))


@pytest.mark.parametrize(
    ("sought", "stored"),
    [
        ("\u1ebf", "e\u0302\u0301"),
        ("\u1ebf", "\u00ea\u0301"),
        ("\u00c5", "\u212b"),
        ("\u212b", "A\u030a"),
        ("\u1ed9", "o\u0302\u0323"),
        ("\u1ed9", "\u00f4\u0323"),
        ("\u03a9", "\u2126"),
    ],
)
def test_half_composed_and_reordered_forms_are_found(sought: str, stored: str) -> None:
    for one, other in ((sought, stored), (stored, sought)):
        assert re.fullmatch(any_form(one), other)
    assert not re.search(any_form(sought), "e a o A O")


@pytest.mark.parametrize("form", FORMS)
async def test_the_viewer_finds_ids_titles_and_what_was_said(sessions: Sessions, form: Form) -> None:
    other = FORMS[1 - FORMS.index(form)]
    for number, word in enumerate(WORDS):
        stored = unicodedata.normalize(form, word)
        sessions.raw.insert_one(session(f"{number}-{stored}", agents={"a": [message("user", f"about {stored}")]}))

    async with running(settings_for(sessions.uri, sessions.database_name)) as viewer:
        for number, word in enumerate(WORDS):
            sought = unicodedata.normalize(other, word.upper() if word == "café" else word)
            found: list[list[str]] = [await viewer.found(session_id=sought), await viewer.found(text=sought)]
            assert [[name[:2] for name in names] for names in found] == [[f"{number}-"], [f"{number}-"]], word


async def test_the_playground_finds_what_was_said(sessions: Sessions) -> None:
    stored = unicodedata.normalize("NFD", "café")
    document = session("s-1", application_name="playground", agents={AGENT_ID: [message("user", f"A {stored}?")]})
    sessions.raw.insert_one(document)
    app = app_of("playground", sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        answer: Any = (await client.get("/api/sessions", params={"text": "café", "search": "café", "q": "café"})).json()

    assert [found["session_id"] for found in answer["sessions"]] == ["s-1"]
