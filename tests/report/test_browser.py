"""The page in a real browser: read from a file, worked by pointer and by keyboard, wide and narrow, light and dark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from report import made_runs
from sightline.pages.page import write_page
from sightline.pages.reading import read_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu"]

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium, and these tests run"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright for Python is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of every kind of run; the first measured one has two methods and a sink."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        made_runs.write_measure(folder / "measured", 5, method="pai"),
        made_runs.write_sinks(folder / "sinks"),
        made_runs.write_eval(folder / "eval"),
        made_runs.write_impact(folder / "impact"),
        made_runs.write_training(folder / "train"),
    ]
    return write_page(read_runs(runs), folder / "report.html")


@dataclass
class Opened:
    """A page, and what it complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def canvas(self, pane: int = 0) -> str:
        """The map of a pane as a picture."""
        return str(self.page.locator(".pane .frame canvas").nth(pane).evaluate("canvas => canvas.toDataURL()"))

    def text(self, selector: str) -> str:
        """The words of the first such element."""
        return self.page.locator(selector).first.inner_text()

    def said(self) -> str:
        """What a screen reader is told."""
        return self.page.locator("#said").text_content() or ""


def opened(browser: Browser, path: Path, **options: Any) -> Opened:
    """The page, drawn; every request that is no file or data is a complaint."""
    page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **options})
    told = Opened(page)
    page.on("console", lambda message: told.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: told.complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:", "blob:")) else told.complaints.append(request.url)
        ),
    )
    page.goto(path.as_uri())
    page.wait_for_selector("#viewer .question")
    page.wait_for_function("() => [...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg'))")
    return told


@pytest.fixture
def shown(browser: Browser, report: Path) -> Iterator[Opened]:
    told = opened(browser, report)
    yield told
    assert told.complaints == []
    told.page.close()


def test_every_part_is_drawn_from_a_file(shown: Opened) -> None:
    parts = shown.page.locator("nav a").all_inner_texts()
    assert parts == [
        "Where attention goes", "Sinks on the image", "Methods compared", "Training", "Samples", "Settings"
    ]  # fmt: skip
    shown.page.wait_for_function("() => document.querySelectorAll('.chart svg').length >= 9")
    assert shown.page.locator(".card .big").first.inner_text() != ""
    assert shown.page.locator("#film button").count() == 5 + 4 + 1
    assert "undefined" not in shown.page.locator("main").inner_text()
    assert "NaN" not in shown.page.locator("main").inner_text()
    assert "[object" not in shown.page.locator("main").inner_text()
    assert "torch 2.13" in shown.text("#settings")


def test_two_methods_stand_side_by_side(shown: Opened) -> None:
    assert shown.page.locator(".pane h4").all_inner_texts() == ["tiny-llava", "tiny-llava · pai"]
    left, right = (shown.page.locator(".pane").nth(place).bounding_box() for place in (0, 1))
    assert left is not None
    assert right is not None
    assert left["x"] + left["width"] <= right["x"] + 1
    assert abs(left["y"] - right["y"]) < 2
    assert shown.canvas(0) != shown.canvas(1)


def test_layer_head_and_word_change_the_map(shown: Opened) -> None:
    seen = [shown.canvas()]
    shown.page.locator("#layer").fill("6")
    assert shown.text("#layer-said") == "6"
    seen.append(shown.canvas())
    shown.page.locator("#head").fill("2")
    assert shown.text("#head-said") == "1"
    seen.append(shown.canvas())
    shown.page.locator(".pane button.word").nth(3).click()
    shown.page.mouse.move(5, 5)
    seen.append(shown.canvas())
    assert shown.page.locator(".pane button.word").nth(3).get_attribute("aria-pressed") == "true"
    shown.page.locator("#style").select_option("spotlight")
    seen.append(shown.canvas())
    assert len(set(seen)) == len(seen)
    assert "layer 6, head 1" in shown.text(".sum")


def test_pointing_at_a_word_shows_its_map_until_the_pointer_leaves(shown: Opened) -> None:
    before = shown.canvas()
    shown.page.locator(".pane button.word").nth(4).hover()
    assert shown.canvas() != before
    shown.page.mouse.move(5, 5)
    assert shown.canvas() == before


def test_a_patch_shows_which_words_look_there(shown: Opened) -> None:
    data = shown.page.evaluate("JSON.parse(document.getElementById('data').textContent).samples[0].variants[0].maps")
    assert data["layers"] == list(range(made_runs.LAYERS))
    maps = made_runs.sample_maps(0)
    layer = int(shown.text("#layer-said"))
    canvas = shown.page.locator(".pane .frame canvas").first
    box = canvas.bounding_box()
    assert box is not None
    row, column, side = 1, 4, made_runs.SIDE
    at = {"x": box["width"] * (column + 0.5) / side, "y": box["height"] * (row + 0.5) / side}
    canvas.click(position=at)
    shares = maps.mean[:, layer, len(made_runs.PROMPT) + row * side + column]
    assert "Patch row 2, column 5" in shown.text(".sum")
    assert f"{100 * shares[0]:.1f} %" in shown.text(".sum") or f"{100 * shares[0]:.0f} %" in shown.text(".sum")
    lit = [
        place
        for place, word in enumerate(shown.page.locator(".pane").first.locator("button.word").all())
        if "lit" in (word.get_attribute("class") or "")
    ]
    assert lit == [int(shares.argmax())]
    assert "Patch row 2, column 5" in shown.said()
    canvas.click(position=at)
    shown.page.mouse.move(5, 5)
    assert "Patch" not in shown.text(".sum")


def test_words_are_coloured_by_grounding_where_asked(shown: Opened) -> None:
    words = shown.page.locator(".pane").first.locator("button.word")
    colour = "word => word.style.background"
    before = [words.nth(place).evaluate(colour) for place in range(2)]
    shown.page.locator("#words").select_option("grounding")
    after = [words.nth(place).evaluate(colour) for place in range(2)]
    assert "--good" in after[1]
    assert after != before
    assert words.nth(1).get_attribute("title") == "grounding 0.13"
    assert "grounding" in shown.text(".strip h5")


def test_sinks_are_taken_out_of_the_map(shown: Opened) -> None:
    high, before = shown.text(".scale span:last-child"), shown.canvas()
    shown.page.locator("#sinkswitch").uncheck()
    assert shown.canvas() != before
    assert float(shown.text(".scale span:last-child").split()[0]) < float(high.split()[0])
    assert shown.page.locator(".pane .word.off").first.inner_text() == "<s>"
    assert "sinks left out" in shown.text(".sum")


def test_all_of_it_by_keyboard(shown: Opened) -> None:
    page, seen = shown.page, [shown.canvas()]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#film button").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('#film [aria-selected=true]').dataset.place === '1'")
    assert page.evaluate("document.activeElement.dataset.place") == "1"
    page.wait_for_function("() => document.querySelector('.question h3').textContent.includes('picture 1')")
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.tagName.toLowerCase()"))
        if order[-1] == "canvas":
            break
    assert order == ["layer", "head", "sinkswitch", "style", "words", "canvas"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert "Patch row 2, column 2" in shown.said()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "word"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == ","
    seen.append(shown.canvas())
    page.keyboard.press("ArrowUp")
    seen.append(shown.canvas())
    page.keyboard.press("]")
    seen.append(shown.canvas())
    page.keyboard.press("s")
    seen.append(shown.canvas())
    page.keyboard.press("n")
    page.wait_for_function("() => document.querySelector('.question h3').textContent.includes('picture 2')")
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_window_is_not_scrolled_sideways(browser: Browser, report: Path, width: int) -> None:
    told = opened(browser, report, viewport={"width": width, "height": 700})
    for place in (0, 5, 9):
        told.page.evaluate(f"show({place})")
        told.page.wait_for_function(f"() => view.sample === {place} && document.querySelector('.pane')")
        whole, seen = told.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert whole <= seen
    assert told.complaints == []
    told.page.close()


def test_light_and_dark(browser: Browser, report: Path) -> None:
    told = opened(browser, report, color_scheme="dark")
    brightness = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert told.page.evaluate(brightness) < 60
    told.page.emulate_media(color_scheme="light")
    told.page.wait_for_function(f"() => {brightness} > 200")
    for theme, is_dark in (("light", False), ("dark", True), ("as the system", False)):
        told.page.locator("#theme").click()
        assert theme in (told.page.locator("#theme").get_attribute("aria-label") or "")
        assert (told.page.evaluate(brightness) < 60) is is_dark
    assert told.complaints == []
    told.page.close()


def test_many_samples_answer_at_once(browser: Browser, tmp_path: Path) -> None:
    folder = made_runs.write_measure(tmp_path / "many", 2)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    many = [lines[number % 2] | {"id": f"s-{number}"} for number in range(240)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in many))
    told = opened(browser, write_page(read_runs([folder]), tmp_path / "many.html"))
    page = told.page
    assert page.locator("#film button").count() == 240
    assert page.locator(".pane").count() == 1, "one sample is drawn, not all"
    page.locator("#film button").first.focus()
    page.keyboard.press("End")
    page.wait_for_function("() => view.sample === 239")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => view.sample === 209")
    assert page.evaluate("decoded.size") <= 12, "maps that were looked at do not pile up"
    page.locator("#search").fill("s-17")
    assert told.text("#count") == "11 of 240 samples"
    page.wait_for_function("() => view.sample === 17")
    page.locator("#search").fill("nothing like it")
    assert told.text("#count") == "0 of 240 samples"
    assert told.complaints == []
    page.close()


def test_awkward_words_are_shown_as_they_are(browser: Browser, tmp_path: Path) -> None:
    folder = made_runs.write_measure(tmp_path / "awkward", 1, words=made_runs.AWKWARD)
    told = opened(browser, write_page(read_runs([folder]), tmp_path / "awkward.html"))
    shown = told.page.locator(".pane button.word").all_text_contents()
    assert shown[:2] == made_runs.AWKWARD[:2]
    assert shown[2] == "␀␁␛[31m"
    assert shown[3:5] == made_runs.AWKWARD[3:5]
    assert shown[5] == "\ufffd"
    assert shown[7] == "∅"
    assert told.page.locator(".strip img").count() == 0
    assert told.complaints == []
    told.page.close()


@pytest.mark.parametrize("kind", ["eval", "impact", "bare"])
def test_runs_without_attention_maps_say_so(browser: Browser, tmp_path: Path, kind: str) -> None:
    write = {
        "eval": made_runs.write_eval,
        "impact": made_runs.write_impact,
        "bare": lambda folder: made_runs.write_measure(folder, has_maps=False),
    }
    told = opened(browser, write_page(read_runs([write[kind](tmp_path / kind)]), tmp_path / "page.html"))
    text = told.text("#viewer")
    if kind == "impact":
        assert "impact, causal" in text
        assert told.page.locator(".frame img").count() == 1
        assert told.page.locator(".scale span").first.inner_text().startswith("−")
    elif kind == "eval":
        assert text.count("✓ right") + text.count("✗ wrong") == 2
    else:
        assert "measure with --maps" in text
    assert told.complaints == []
    told.page.close()
