"""What the front ends are made of: no markup from text, nothing from elsewhere, third parties with their licences."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mongodb_session_manager

PACKAGE = Path(mongodb_session_manager.__file__).parent
SHARED = PACKAGE / "web" / "static"
VENDOR = SHARED / "vendor"
OWN = sorted(
    path
    for folder in (SHARED, PACKAGE / "viewer" / "static", PACKAGE / "playground" / "static")
    for path in folder.rglob("*")
    if path.suffix in {".js", ".css", ".html", ".svg"} and VENDOR not in path.parents
)


@pytest.mark.parametrize("path", OWN, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_text_becomes_markup_and_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    forbidden = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|setHTMLUnsafe"
        r"|\beval\(|new Function|\bstyle=|\son[a-z]+=\"",
        text,
    )
    assert forbidden == []
    elsewhere = re.findall(r"""(?:src|href|from|import|url\(|fetch\()\s*[=(]?\s*["']?(https?:)?//[\w.-]+""", text)
    assert elsewhere == []


@pytest.mark.parametrize("path", OWN, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_one_room_and_says_what_is_in_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    if path.suffix in {".js", ".css"}:
        assert re.match(r"// [A-Z].+\.|/\* [A-Z].+", text), "its first line says what it is"


def test_what_the_modules_import_is_there() -> None:
    """A typing error in a path shows here, not in a browser."""
    for path in OWN:
        for name in re.findall(r"""(?:from|import\()\s*["'](\.[^"']+)["']""", path.read_text()):
            target = SHARED / name.removeprefix("../shared/") if name.startswith("../shared/") else path.parent / name
            assert target.is_file(), f"{path.name} imports {name}"


def test_third_party_code_has_licence_and_version() -> None:
    readme, script = (VENDOR / "README.md").read_text(), (VENDOR / "update.sh").read_text()
    folders = [path for path in VENDOR.iterdir() if path.is_dir()]
    assert {path.name for path in folders} == {"dompurify", "highlight", "markdown-it", "uplot"}
    for folder in folders:
        assert (folder / "LICENSE").stat().st_size > 500, folder.name
        (version,) = re.findall(rf"`{folder.name}/` \|[^|]+\| ([\d.]+) \|", readme)
        assert f"{folder.name.replace('-', '_').upper()}={version}\n" in script
        code = "".join(path.read_text() for path in folder.glob("*.js"))
        assert version in code[:400]
        assert "sourceMappingURL" not in code
