"""The two small Qwens: of the real form, for pictures of any size, and as good as their cards say."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.zoo import BUNDLED, bundled_path
from sightline.zoo import questions as ask
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import Scene, draw_scenes

NAMES = [name for name in BUNDLED if "qwen" in name]
SYSTEM = {"tiny-qwen2_5-vl": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", "tiny-qwen3-vl": ""}
SIDES = (96, 144)
FRESH = list(draw_scenes(24, seed=29))


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def vlm(name: str) -> sl.VLM:
    return sl.load(name)


def answers(vlm: sl.VLM, pairs: list[tuple[Scene, Question]], side: int) -> list[str]:
    samples = [sl.Sample(image=render(scene, side), prompt=question.prompt) for scene, question in pairs]
    parts = [samples[start : start + 30] for start in range(0, len(samples), 30)]
    return [text.strip() for part in parts for text in vlm.generate(vlm.encode(part), max_new_tokens=48)]


def test_the_folder_is_at_most_four_megabytes(name: str) -> None:
    assert sum(path.stat().st_size for path in bundled_path(name).iterdir()) <= 4_000_000


def test_it_is_kept_in_half_precision_and_computes_in_single(name: str, vlm: sl.VLM) -> None:
    from safetensors import safe_open

    with safe_open(bundled_path(name) / "model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    assert vlm.model.dtype == torch.float32


def test_the_towers_are_of_their_families(vlm: sl.VLM) -> None:
    vision, text = vlm.model.config.vision_config, vlm.model.config.text_config
    assert (vision.patch_size, vision.spatial_merge_size) == (8, 2)
    assert sum(text.rope_parameters["mrope_section"]) == text.hidden_size // text.num_attention_heads // 2
    if vision.model_type == "qwen3_vl_vision":
        assert type(vlm.model).__name__ == "Qwen3VLForConditionalGeneration"
        assert len(vision.deepstack_visual_indexes) == 3
    else:
        assert type(vlm.model).__name__ == "Qwen2_5_VLForConditionalGeneration"
        assert 0 < len(vision.fullatt_block_indexes) < vision.depth


@pytest.mark.parametrize(
    ("size", "grid"), [((96, 96), (6, 6)), ((144, 144), (9, 9)), ((48, 48), (6, 6)), ((128, 96), (6, 8))]
)
def test_a_picture_makes_tokens_by_its_size(vlm: sl.VLM, size: tuple[int, int], grid: tuple[int, int]) -> None:
    inputs = vlm.encode(sl.Sample(image=Image.new("RGB", size, "white"), prompt="Do you see it?"))
    layout = vlm.layout(inputs)
    assert layout.counts()["image"] == grid[0] * grid[1]
    assert tuple(layout.grids[0][0].positions.shape) == grid
    assert vlm.check(inputs) == []


def test_a_photograph_is_made_smaller_at_its_own_shape(vlm: sl.VLM) -> None:
    inputs = vlm.encode(sl.Sample(image=Image.effect_noise((640, 427), 80).convert("RGB"), prompt="Ein Zebra?"))
    rows, columns = vlm.layout(inputs).grids[0][0].positions.shape
    assert 36 <= rows * columns <= 81
    assert columns > rows
    assert vlm.generate(inputs, max_new_tokens=4)


def test_the_chat_template_is_of_the_real_form(name: str, vlm: sl.VLM) -> None:
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    talk: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Do you see a star?"}]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "Where?"},
    ]
    said = vlm.processor.apply_chat_template(talk, add_generation_prompt=True)
    assert said == (
        f"{SYSTEM[name]}<|im_start|>user\n{picture}Do you see a star?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
        "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    )
    own = vlm.processor.apply_chat_template([{"role": "system", "content": "Say it."}, *talk])
    assert own.startswith("<|im_start|>system\nSay it.<|im_end|>\n<|im_start|>user\n")
    assert own.count("system") == 1


def test_the_processor_settings_name_a_video_part_for_who_has_torchvision(name: str) -> None:
    settings = json.loads((bundled_path(name) / "processor_config.json").read_text())
    assert settings["processor_class"] == ("Qwen3VLProcessor" if "qwen3" in name else "Qwen2_5_VLProcessor")
    for part in ("image_processor", "video_processor"):
        assert (settings[part]["patch_size"], settings[part]["merge_size"]) == (8, 2)


def figures_at(name: str, side: int) -> tuple[float, float]:
    """Accuracy on random negatives and object F1 of captions, as the card says them for pictures of this side."""
    figures = json.loads((bundled_path(name) / "figures.json").read_text())
    found = figures["sizes"].get(str(side)) or {"yes_no": figures["yes_no"]["random"], "caption": figures["caption"]}
    return found["yes_no"]["accuracy"], found["caption"]["object_f1"]


@pytest.mark.parametrize("side", SIDES)
def test_it_sees_as_well_as_its_card_says(name: str, vlm: sl.VLM, side: int) -> None:
    pairs = [(scene, q) for i, scene in enumerate(FRESH) for q in ask.pope(scene, "random", random.Random(i))]
    said = answers(vlm, pairs, side)
    right = sum(text == q.answer for text, (_, q) in zip(said, pairs, strict=True)) / len(pairs)
    assert right >= figures_at(name, side)[0] - 0.05
    assert right >= 0.9


@pytest.mark.parametrize("side", SIDES)
def test_it_describes_as_well_as_its_card_says(name: str, vlm: sl.VLM, side: int) -> None:
    named = [set(ask.mentioned(text)) for text in answers(vlm, [(scene, ask.caption(scene)) for scene in FRESH], side)]
    both = sum(len(names & set(scene.kinds)) for names, scene in zip(named, FRESH, strict=True))
    f1 = 2 * both / (sum(map(len, named)) + sum(len(scene.kinds) for scene in FRESH))
    assert f1 >= figures_at(name, side)[1] - 0.05
    assert f1 >= 0.8


@pytest.mark.parametrize("side", SIDES)
def test_it_reaches_its_aim_in_yes_and_no(name: str, side: int) -> None:
    assert figures_at(name, side)[0] >= 0.95


@pytest.mark.parametrize("side", SIDES)
def test_it_reaches_its_aim_in_captions(name: str, side: int) -> None:
    assert figures_at(name, side)[1] >= 0.95
