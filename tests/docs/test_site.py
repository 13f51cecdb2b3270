from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

_FETCHED = re.compile(r"""<(?:script|img|iframe|source)[^>]*\bsrc=["']?(?:https?:)?//""")
_STYLES = re.compile(r"""<link[^>]*rel=["']?stylesheet[^>]*href=["']?(?:https?:)?//""")


def _fetches(html: str) -> bool:
    return bool(_FETCHED.search(html) or _STYLES.search(html))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_site_builds_without_a_warning_and_fetches_nothing_from_other_hosts(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))

    assert len(pages) > 30
    assert [page.name for page in pages if _fetches(page.read_text())] == []
    styles = [style.name for style in site.rglob("*.css") if re.search(r"url\([\"']?https?:", style.read_text())]
    assert styles == []


@pytest.mark.slow
def test_the_reference_shows_methods_with_what_they_raise(site: Path) -> None:
    page = (site / "reference" / "managers.html").read_text()

    for method in ("open", "turn", "update_metadata", "get_metrics_summary", "repair_session"):
        assert f'id="mongodb_session_manager.AsyncMongoDBSessionManager.{method}"' in page
    assert "LeaseUnavailableError" in page
