"""The page in a real browser: read from a file, worked by pointer and by keyboard, wide and narrow, light and dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from report import made_runs
from sightline.pages.page import write_page
from sightline.pages.reading import read_runs
from support.browsing import NEEDED, browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]  # a fixture

pytestmark = NEEDED


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
        return str(self.page.locator(".pane .frame canvas[role]").nth(pane).evaluate("canvas => canvas.toDataURL()"))

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


def start(told: Opened, place: int = 0, word: int = 0) -> None:
    """Looks at a sample and a word of its answer."""
    told.page.evaluate(f"show({place}, false, {{ word: {word} }})")
    told.page.wait_for_function(f"() => view.sample === {place} && view.panes.length && view.panes[0].word === {word}")


def test_every_part_is_drawn_from_a_file(shown: Opened) -> None:
    parts = shown.page.locator("nav a").all_inner_texts()
    assert parts == [
        "Methods compared", "Where attention goes", "What hiding does", "Sinks on the image", "Training", "Samples",
        "Settings",
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
    start(shown)
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
    start(shown)
    before = shown.canvas()
    shown.page.locator(".pane button.word").nth(4).hover()
    assert shown.canvas() != before
    shown.page.mouse.move(5, 5)
    assert shown.canvas() == before


def test_a_patch_shows_which_words_look_there(shown: Opened) -> None:
    start(shown)
    data = shown.page.evaluate("pieceOf(0)[1][0]")
    assert data["layers"] == list(range(made_runs.LAYERS))
    maps = made_runs.sample_maps(0)
    layer = int(shown.text("#layer-said"))
    canvas = shown.page.locator(".pane .frame canvas[role]").first
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
    start(shown)
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
    start(shown)
    high, before = shown.text(".scale span:last-child"), shown.canvas()
    shown.page.locator("#sinkswitch").uncheck()
    assert shown.canvas() != before
    assert float(shown.text(".scale span:last-child").split()[0]) < float(high.split()[0])
    assert shown.page.locator(".pane .word.off").first.inner_text() == "<s>"
    assert "sinks left out" in shown.text(".sum")


def test_all_of_it_by_keyboard(shown: Opened) -> None:
    start(shown)
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
    order.remove("link")
    assert order == ["layer", "head", "sinkswitch", "style", "words", "canvas"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert "Patch row 2, column 2" in shown.said()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "word"
    shown.page.locator(".pane button.word").first.focus()
    page.keyboard.press("ArrowLeft")
    shown.page.evaluate("choose(view.panes[0], 0)")
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


def test_two_thousand_samples_answer_at_once(browser: Browser, tmp_path: Path) -> None:
    folder = made_runs.write_measure(tmp_path / "many", 2, side=4, layers=2)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    many = [lines[number % 2] | {"id": f"s-{number}"} for number in range(2000)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in many))
    told = opened(browser, write_page(read_runs([folder]), tmp_path / "many.html", samples=2000))
    page = told.page
    assert page.locator("#film button").count() == 2000
    assert page.locator(".pane").count() == 1, "one sample is drawn, not all"
    assert page.evaluate("pieces.size") <= 3, "what is not looked at is not even parsed"
    assert page.evaluate("document.querySelectorAll('[id^=piece-]').length") > 10
    page.locator("#film button").first.focus()
    page.keyboard.press("End")
    page.wait_for_function("() => view.sample === 1999")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => view.sample === 1969")
    assert page.evaluate("[decoded.size <= 12, pieces.size <= 8]") == [True, True], "what was seen does not pile up"
    page.locator("#search").fill("s-170")
    assert told.text("#count") == "11 of 2000 samples"
    page.wait_for_function("() => view.sample === 170")
    page.locator("#search").fill("nothing like it")
    assert told.text("#count") == "0 of 2000 samples"
    assert told.complaints == []
    page.close()


def test_the_first_screen_is_the_finding_with_a_picture(shown: Opened) -> None:
    title = shown.text("#title")
    assert title.startswith("tiny-llava answers")
    assert "PAI does not change that beyond chance" in title
    box = shown.page.locator("#title").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 700
    assert "subtitle" not in title


def test_better_and_worse_are_told_by_sign_colour_and_words(browser: Browser, tmp_path: Path) -> None:
    folder = made_runs.write_eval(tmp_path / "eval")
    summary = json.loads((folder / "summary.json").read_text())
    pair, score = summary["paired"][0], summary["methods"]["none"]
    summary["methods"] |= {"vcd": score, "yes_bias": score}
    summary["paired"] = [
        pair | {"delta": 0.2, "ci95": [0.1, 0.3], "p_value": 1e-6},
        pair | {"b": "vcd", "delta": -0.2, "ci95": [-0.3, -0.1], "p_value": 1e-3},
        pair | {"b": "yes_bias", "delta": -0.3, "ci95": [-0.4, -0.1], "p_value": 1e-4},
    ]
    (folder / "summary.json").write_text(json.dumps(summary))
    told = opened(browser, write_page(read_runs([folder]), tmp_path / "page.html"))
    all_methods = told.page.locator(".chart").first
    assert "Every method by its effect" in all_methods.inner_text()
    assert all_methods.locator(".legend li").all_inner_texts() == ["▲ better", "▼ worse", "control"]
    assert "+20.0 p < 0.001" in all_methods.inner_text().replace("\xa0", " ").replace("  ", " ")
    assert all_methods.locator("tbody th").all_text_contents() == ["pai", "vcd", "yes_bias"]
    assert "Gain against time" in told.page.locator(".chart").nth(1).inner_text()
    assert told.complaints == []
    told.page.close()


def test_flipped_items_lead_to_their_sample(shown: Opened) -> None:
    cards = shown.page.locator(".gallery .flip")
    assert cards.count() == 4
    shown.page.get_by_label("Which flipped items").select_option("made right")
    right = cards.count()
    marks = cards.first.locator(".mark").all_text_contents()
    assert marks == ["✗", "✓"]
    shown.page.get_by_label("Which flipped items").select_option("made wrong")
    assert cards.count() == 4 - right
    shown.page.get_by_label("Which flipped items").select_option("all")
    cards.first.click()
    shown.page.wait_for_function("() => data.samples[view.sample].run === 2")


def test_a_chart_is_saved_as_svg_png_and_csv(shown: Opened, tmp_path: Path) -> None:
    found = {}
    for kind in ("SVG", "PNG", "CSV"):
        with shown.page.expect_download() as waiting:
            shown.page.get_by_role("button", name=f"Save Modality dominance (MDI) as {kind}").click()
        waiting.value.save_as(tmp_path / kind)
        found[kind] = (tmp_path / kind).read_bytes()
    assert ElementTree.fromstring(found["SVG"]).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"var(" not in found["SVG"], "colours stand in the file itself"
    with Image.open(tmp_path / "PNG") as picture:
        assert picture.width > 600
    rows = found["CSV"].decode().splitlines()
    assert rows[0].startswith('layer,tiny-llava,"tiny-llava, 95% low","tiny-llava, 95% high",')
    assert len(rows) == 1 + made_runs.LAYERS


def test_an_address_brings_the_view_back(browser: Browser, shown: Opened) -> None:
    start(shown, 2)
    shown.page.locator(".pane button.word").nth(3).click()
    shown.page.locator("#layer").fill("6")
    shown.page.locator("#head").fill("2")
    shown.page.locator("#style").select_option("patches")
    shown.page.mouse.move(5, 5)
    address = shown.page.evaluate("location.href")
    other = browser.new_page(viewport={"width": 1200, "height": 900})
    other.goto(address)
    other.wait_for_function("() => view.panes.length")
    state = "[view.sample, view.panes[0].word, view.layer, view.head, view.style]"
    assert other.evaluate(state) == shown.page.evaluate(state) == [2, 3, 6, 2, "patches"]
    other.evaluate("location.hash = '#sample=nobody'")
    other.wait_for_function("() => document.getElementById('said').textContent.includes('no such sample')")
    other.close()


def test_it_opens_where_the_methods_differ_most(shown: Opened) -> None:
    data = shown.page.evaluate("({ first: data.first, shown: view.sample, word: view.panes[0].word })")
    assert data["first"] == data["shown"]
    distances = []
    for number in range(5):
        one, other = (made_runs.sample_maps(number + shift).mean for shift in (0, 50))
        distances.append(float(np.abs(one - other).sum(-1).mean()))
    assert data["first"] == int(np.argmax(distances))
    one, other = (made_runs.sample_maps(data["first"] + shift).mean for shift in (0, 50))
    words = np.abs(one - other).sum(-1).sum(-1)
    letters = [place for place, word in enumerate(made_runs.ANSWER) if len(word) > 1]
    assert data["word"] == max(letters, key=lambda place: words[place])


def test_a_spotlight_stands_beside_the_heat_and_the_bar_is_the_ramp_as_painted(shown: Opened) -> None:
    pane = shown.page.locator(".pane").first
    heat, light = (pane.locator(f".frame canvas{which}").bounding_box() for which in ("[role]", ".light"))
    assert heat is not None
    assert light is not None
    assert light["x"] >= heat["x"] + heat["width"]
    ends = """() => { const bar = view.panes[0].bar.getContext("2d"), ground = groundOf(view.panes[0]);
      return [[...bar.getImageData(0, 0, 1, 1).data.slice(0, 3)], ground.match(/\\d+/g).map(Number)]; }"""
    low, ground = shown.page.evaluate(ends)
    assert np.abs(np.subtract(low, ground)).max() < 20, "where nothing is seen, the picture shows through"
    shown.page.locator("#style").select_option("patches")
    low, _ = shown.page.evaluate(ends)
    assert np.abs(np.subtract(low, ground)).max() > 60
    shown.page.locator("#style").select_option("spotlight")
    assert not pane.locator(".frame canvas.light").is_visible()


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
        assert told.page.locator(".pane .frame img").count() == 2
        assert told.page.locator(".scale span").first.inner_text().startswith("−")
    elif kind == "eval":
        assert text.count("✓ right") + text.count("✗ wrong") == 2
        assert told.page.locator("#witness").is_hidden() or told.page.locator("#witness img").count() == 1
    else:
        assert "measure with --maps" in text
    assert told.complaints == []
    told.page.close()
