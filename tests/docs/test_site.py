"""The documentation site builds, strictly, and asks nothing of a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT

pytest.importorskip("material", reason="mkdocs-material is not installed: pip install 'sightline-vlm[docs]'")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install 'sightline-vlm[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder


def test_every_page_is_in_the_navigation(site: Path) -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/]+\.md", text[text.index("nav:") :]))
    assert named == {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(https?:[^\"> ]+)", text)
        assert loaded == [], f"{page.name} loads {loaded}"
    assert not list(site.rglob("*.py"))


def test_no_table_is_torn(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.findall(r"<p>\|.*", page.read_text(encoding="utf-8")), f"torn on {page.parent.name}"


def test_every_public_name_has_its_entry(site: Path) -> None:
    import sightline

    text = "".join(path.read_text(encoding="utf-8") for path in (site / "api").rglob("*.html"))
    headings = set(re.findall(r'<h2 id="[^"]*">sl\.(\w+)', text)) | {"__version__"}
    assert headings == set(sightline.__all__)
    assert text.count('class="doc doc-contents') >= len(headings) - 10, "docstrings are there"
    assert "Serve the live page of a model" in text


def test_pages_name_the_version_and_code_is_highlighted(site: Path) -> None:
    version = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    for name in ("index.html", "notebook/index.html", "methods/vcd/index.html"):
        assert f"Sightline {version}" in (site / name).read_text(encoding="utf-8")
    text = (site / "measure" / "index.html").read_text(encoding="utf-8")
    assert "language-bash" in text
    assert "language-python" in text
    assert '<span class="k">' in text or '<span class="kn">' in text
