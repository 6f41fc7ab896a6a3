"""The live page in a real browser: ask, look at words, cut, compare, share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw

from live.test_server import address
from report.test_browser import CHROMIUM, browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["address", "browser"]  # fixtures

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawn = Image.new("RGB", (96, 72), (235, 235, 235))
    ImageDraw.Draw(drawn).ellipse((10, 10, 45, 45), fill=(220, 30, 30))
    path = tmp_path_factory.mktemp("photo") / "<b>red.png"
    drawn.save(path)
    return path


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1100, "height": 900})
    opened.set_default_timeout(60_000)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(address)
    yield opened
    opened.close()
    assert not complaints


def ask(page: Page, photograph: Path, prompt: str = "What is in the picture?") -> None:
    page.get_by_test_id("image-input").set_input_files(photograph)
    page.get_by_test_id("prompt").fill(prompt)
    page.get_by_test_id("ask").click()
    page.get_by_test_id("word").first.wait_for()


def test_asking_shows_the_answer_word_by_word_with_its_map(page: Page, photograph: Path) -> None:
    ask(page, photograph)
    answer = page.get_by_test_id("answer").inner_text()
    assert answer.strip()
    page.get_by_test_id("word").nth(1).click()
    assert page.get_by_test_id("map").is_visible()
    assert "runners-up" in page.locator(".runners").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.get_by_test_id("word").nth(2).get_attribute("aria-pressed") == "true"


def test_cutting_patches_tells_what_the_answer_loses(page: Page, photograph: Path) -> None:
    ask(page, photograph)
    page.get_by_test_id("cut").click()
    canvas = page.get_by_test_id("map")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4, steps=8)
    page.mouse.up()
    page.get_by_text("log-probability changes by").wait_for()
    assert page.locator(".mask").count() >= 2
    page.locator("#clear").click()
    assert page.locator(".mask").count() == 0


def test_comparing_puts_two_answers_side_by_side_and_the_link_brings_them_back(
    page: Page, photograph: Path, browser: Browser
) -> None:
    ask(page, photograph)
    page.get_by_test_id("method").select_option("vaf")
    page.get_by_test_id("compare").click()
    page.locator(".pane").nth(1).wait_for()
    assert [pane.get_attribute("aria-label") for pane in page.locator(".pane").all()] == ["plain", "vaf"]
    page.get_by_test_id("share").click()
    other = browser.new_page()
    other.goto(page.url)
    other.locator(".pane").nth(1).wait_for(timeout=60_000)
    assert other.get_by_test_id("answer").inner_text() == page.get_by_test_id("answer").inner_text()
    other.close()


def test_a_broken_upload_is_a_sentence_and_html_stays_text(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    page.get_by_test_id("image-input").set_input_files(broken)
    page.get_by_test_id("prompt").fill("<img src=x onerror=alert(1)>")
    page.get_by_test_id("ask").click()
    page.locator(".answer.bad").wait_for()
    assert "cannot be read" in page.get_by_test_id("answer").inner_text()
    assert page.locator("img[src=x]").count() == 0


def test_it_fits_a_telephone_and_works_by_keys_alone(page: Page, photograph: Path) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.get_by_test_id("image-input").set_input_files(photograph)
    page.get_by_test_id("prompt").focus()
    page.keyboard.type("Is there a red circle?")
    page.keyboard.press("Enter")
    page.get_by_test_id("word").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
