"""The live page in a real browser: ask, look at words, cut, compare, keep; by pointer, by keys, by several people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw

from support.browsing import NEEDED, address, browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["address", "browser"]  # fixtures

pytestmark = NEEDED


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawn = Image.new("RGB", (96, 72), (235, 235, 235))
    ImageDraw.Draw(drawn).ellipse((10, 10, 45, 45), fill=(220, 30, 30))
    path = tmp_path_factory.mktemp("photo") / "<b>red.png"
    drawn.save(path)
    return path


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1100, "height": 900}, accept_downloads=True)
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


def drag(page: Page, left: float, top: float, right: float, bottom: float) -> None:
    """Over the map, in parts of its sides."""
    page.get_by_test_id("map").first.scroll_into_view_if_needed()
    box = page.get_by_test_id("map").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * left, box["y"] + box["height"] * top)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * right, box["y"] + box["height"] * bottom, steps=6)
    page.mouse.up()


def test_asking_shows_the_answer_word_by_word_with_its_map(
    page: Page, photograph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page.get_by_test_id("image-input").set_input_files(photograph)
    page.get_by_test_id("prompt").fill("Describe the image.")
    page.evaluate("""() => {
        const start = performance.now(), answer = document.getElementById("answer");
        new MutationObserver(() => { if (answer.textContent) window.firstWord ??= performance.now() - start; })
            .observe(answer, { childList: true, characterData: true, subtree: true });
        document.querySelector("[data-testid=ask]").click();
    }""")
    page.get_by_test_id("word").first.wait_for()
    assert page.get_by_test_id("answer").inner_text().strip()
    map_time = page.evaluate("""() => {
        const start = performance.now();
        document.querySelectorAll("[data-testid=word]")[1].click();
        return performance.now() - start;
    }""")
    with capsys.disabled():
        first = page.evaluate("window.firstWord")
        print(f"\nlive page: first word {first:.0f} ms after asking, a word's map {map_time:.0f} ms after the click")
    assert page.get_by_test_id("map").is_visible()
    assert "runners-up" in page.locator(".runners").inner_text()
    assert page.locator(".runners b").count() == 5
    text = page.locator(".sum").inner_text()
    assert "of its attention on the image" in text
    assert "Grounding" in text
    page.get_by_test_id("word").nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_test_id("word").nth(2).get_attribute("aria-pressed") == "true"
    page.get_by_test_id("map").click()
    page.locator("#lens li").first.wait_for()
    assert page.locator("#lens li").count() == 9, "the input and 8 layers"


def test_patches_words_and_heads_are_cut_while_one_looks(page: Page, photograph: Path, browser: Browser) -> None:
    ask(page, photograph)
    page.get_by_test_id("cut").click()
    drag(page, 0.1, 0.2, 0.5, 0.4)
    page.get_by_text("less likely, most at").or_(page.get_by_text("more likely, most at")).first.wait_for()
    brushed = page.evaluate("cutting.columns.size")
    assert brushed >= 2
    page.locator("#clear").click()
    assert page.locator(".mask").count() == 0
    page.locator("#box").click()
    drag(page, 0.1, 0.1, 0.6, 0.6)
    boxed = page.evaluate("cutting.columns.size")
    assert boxed == 16, "4 x 4 of 6 x 6 patches"
    page.locator(".strip span.word").nth(2).click()
    page.get_by_role("button", name="Head 2 of layer 0").click()
    page.get_by_text("Without 16 patches, 1 word, 1 head").wait_for()
    page.get_by_text("what hiding each place").wait_for()
    page.wait_for_function("() => view.panes[0].effects?.some((value) => value !== 0)")
    other = browser.new_page()
    other.goto(page.url)
    other.get_by_text("Without 16 patches, 1 word, 1 head").wait_for(timeout=60_000)
    assert other.locator(".mask").count() == page.locator(".mask").count()
    other.close()


def test_comparing_puts_two_answers_side_by_side_and_the_link_brings_them_back(
    page: Page, photograph: Path, browser: Browser
) -> None:
    ask(page, photograph)
    page.get_by_test_id("method").select_option("vaf")
    slider = page.get_by_role("slider", name="enhance, slider")
    slider.fill("1.6")
    assert page.locator("[data-field=enhance]").input_value() == "1.6"
    page.get_by_test_id("compare").click()
    page.locator(".pane").nth(1).wait_for()
    names = [pane.get_attribute("aria-label") for pane in page.locator(".pane").all()]
    assert names == ["plain", "vaf:enhance=1.6"]
    assert "differ" in page.locator("#difference").inner_text() or "same" in page.locator("#difference").inner_text()
    page.get_by_test_id("word").nth(1).click()
    page.locator("#layer").fill("2")
    page.get_by_test_id("share").click()
    other = browser.new_page()
    other.goto(page.url)
    other.locator(".pane").nth(1).wait_for(timeout=60_000)
    assert other.get_by_test_id("answer").inner_text() == page.get_by_test_id("answer").inner_text()
    other.wait_for_function("() => view.layer === 2 && view.panes[0].word === 1")
    other.close()


def test_another_picture_and_a_second_turn(page: Page, photograph: Path, tmp_path: Path) -> None:
    green = tmp_path / "green.png"
    Image.new("RGB", (80, 80), (30, 160, 60)).save(green)
    ask(page, photograph)
    page.get_by_label("What the model is shown").select_option("another")
    assert "Choose the other picture" in page.locator("#status").inner_text()
    page.get_by_label("The other picture").set_input_files(green)
    page.get_by_test_id("compare").click()
    page.locator(".pane").nth(1).wait_for()
    assert page.locator(".pane").nth(1).get_attribute("aria-label") == "another picture"
    pictures = [page.locator(".pane").nth(number).locator("img").first.get_attribute("src") for number in (0, 1)]
    assert pictures[0] != pictures[1]
    page.get_by_label("What the model is shown").select_option("as it is")
    page.locator("#further").click()
    assert page.locator("#turns li").count() == 1
    page.get_by_test_id("prompt").fill("And a blue square?")
    page.get_by_test_id("prompt").press("Enter")
    page.locator(".question h3", has_text="blue square").wait_for()
    assert "circle" in page.locator(".strip").inner_text() or "picture" in page.locator(".strip").inner_text()


def test_a_view_is_saved_as_report_picture_drawing_and_python(page: Page, photograph: Path, tmp_path: Path) -> None:
    ask(page, photograph, "What is <i>here</i>?")
    found = {}
    for kind in ("report", "png", "svg"):
        with page.expect_download() as waiting:
            page.locator(f"#{kind}").click()
        waiting.value.save_as(tmp_path / kind)
        found[kind] = (tmp_path / kind).read_bytes()
    assert found["png"].startswith(b"\x89PNG")
    assert found["svg"].count(b"<rect") == 1 + 36
    assert found["svg"].startswith(b"<svg")
    assert b"<i>here" not in found["report"]
    (tmp_path / "report").rename(tmp_path / "report.html")
    page.goto((tmp_path / "report.html").as_uri())
    page.locator("#viewer .pane canvas").first.wait_for()
    assert page.locator("#title").inner_text().startswith("To “What is <i>here</i>?” tiny-llava answers")
    page.go_back()
    page.locator("#python").click()
    page.get_by_text("vlm = sl.load('tiny-llava')").wait_for()


def test_a_broken_upload_is_a_sentence_and_html_stays_text(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    page.get_by_test_id("image-input").set_input_files(broken)
    page.get_by_test_id("prompt").fill("<img src=x onerror=alert(1)>")
    page.get_by_test_id("ask").click()
    page.locator(".answer.bad").wait_for()
    assert "cannot be read" in page.get_by_test_id("answer").inner_text()
    assert page.locator("img[src=x]").count() == 0


def test_html_in_names_questions_and_answers_stays_text(page: Page, photograph: Path) -> None:
    ask(page, photograph, "<img src=x onerror=alert(1)> circle?")
    assert page.locator(".question h3").inner_text() == "<img src=x onerror=alert(1)> circle?"
    assert "<b>red.png" in (page.locator("#thumbs button").get_attribute("aria-label") or "")
    page.evaluate("""() => {
        live.answers[0].text = "<script>1</scr" + "ipt>";
        live.answers[0].maps.words[0][0] = "<b>x";
        return showAnswers();
    }""")
    assert page.get_by_test_id("word").first.inner_text() == "<b>x"
    assert page.locator("img[src=x], #viewer b b").count() == 0


def test_two_tabs_ask_at_once_and_a_closed_one_harms_nobody(page: Page, photograph: Path, browser: Browser) -> None:
    other, gone = browser.new_page(), browser.new_page()
    for each, question in ((other, "Is there a red circle?"), (gone, "Describe the image.")):
        each.goto(page.url)
        each.get_by_test_id("image-input").set_input_files(photograph)
        each.get_by_test_id("prompt").fill(question)
    gone.get_by_test_id("ask").click()
    gone.wait_for_function("() => document.getElementById('answer').textContent || live.request")
    other.get_by_test_id("ask").click()
    gone.close()
    ask(page, photograph, "What color is the circle?")
    other.get_by_test_id("word").first.wait_for(timeout=60_000)
    assert other.locator(".question h3").inner_text() == "Is there a red circle?"
    assert page.locator(".question h3").inner_text() == "What color is the circle?"
    other.close()


def test_a_photograph_of_thirty_megapixels_is_answered(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (6500, 4700), (220, 60, 40)).save(path, quality=60)
    ask(page, path)
    assert page.locator(".pane img").first.evaluate("image => image.naturalWidth") == 768
    page.locator("#thumbs button").click()
    assert page.locator("#thumbs img").count() == 0


def test_it_fits_a_telephone_and_works_by_keys_alone(page: Page, photograph: Path) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.get_by_test_id("image-input").set_input_files(photograph)
    page.get_by_test_id("prompt").focus()
    page.keyboard.type("Is there a red circle?")
    page.keyboard.press("Enter")
    page.get_by_test_id("word").first.wait_for()
    page.get_by_test_id("cut").focus()
    page.keyboard.press("Enter")
    page.get_by_test_id("map").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.get_by_text("Without 1 patch").wait_for()
    page.locator(".strip span.word").nth(1).focus()
    page.keyboard.press("Enter")
    page.get_by_text("Without 1 patch, 1 word").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, select, textarea, canvas[role]")]
        .filter((node) => node.offsetParent && !(node.getAttribute("aria-label") || node.textContent.trim()
            || node.labels?.length)).map((node) => node.outerHTML)""")
    assert nameless == [], "a screen reader names everything that can be used"
