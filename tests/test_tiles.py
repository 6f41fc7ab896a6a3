"""Tiles of a picture: each is known by the part of the picture that its pixels show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from model_folders import save_gemma3, save_internvl, save_llava
from sightline.models.layout import PatchGrid
from sightline.models.layout.patches import WHOLE
from sightline.models.vlm.tiles import _snapped, measured_boxes

PAN = {
    "do_pan_and_scan": True,
    "pan_and_scan_min_ratio_to_activate": 1.2,
    "pan_and_scan_min_crop_size": 10,
    "pan_and_scan_max_num_crops": 4,
}


@pytest.fixture(scope="module")
def internvl(tmp_path_factory: pytest.TempPathFactory) -> sl.VLM:
    return sl.load(save_internvl(tmp_path_factory.mktemp("models") / "internvl"), processor={"max_patches": 12})


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> sl.VLM:
    return sl.load(save_gemma3(tmp_path_factory.mktemp("models") / "gemma3"), processor=PAN)


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of a different colour everywhere, smooth enough that resampling leaves means alone."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def shown(picture: Image.Image, grid: PatchGrid) -> Any:
    """The mean colour of the part of the picture that a grid claims to cover."""
    assert grid.box is not None
    left, top, right, bottom = grid.box
    width, height = picture.size
    box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
    return np.asarray(picture.crop(box), dtype=float).mean((0, 1))


def colours(vlm: sl.VLM, inputs: Any) -> Any:
    """The mean colour of each crop that the model is given."""
    processor = vlm.processor.image_processor
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    return [((crop * std + mean) * 255).mean((1, 2)).numpy() for crop in inputs["pixel_values"]]


SIZES = [(600, 400), (400, 600), (100, 90), (1200, 300), (48, 24), (640, 480), (331, 517)]


@pytest.mark.parametrize("size", SIZES)
def test_tiles_of_internvl_lie_where_their_pixels_come_from(internvl: sl.VLM, size: tuple[int, int]) -> None:
    picture = photo(*size)
    inputs = internvl.encode(sl.Sample("x", image=picture))
    grids = internvl.layout(inputs).grids[0]
    found = colours(internvl, inputs)
    assert len(grids) == len(found)
    for grid, colour in zip(grids, found, strict=True):
        assert grid.index == 0
        assert np.abs(shown(picture, grid) - colour).max() < 6, grid.box
    if len(grids) > 1:
        assert grids[-1].box == WHOLE, "the thumbnail"
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for grid in grids[:-1] if (box := grid.box) is not None]
        assert sum(areas) == pytest.approx(1), "the tiles cover the picture once"
    assert internvl.check(inputs) == []


@pytest.mark.parametrize("size", [(600, 400), (200, 700), (100, 100), (505, 200)])
def test_crops_of_gemma_lie_where_their_pixels_come_from(gemma3: sl.VLM, size: tuple[int, int]) -> None:
    picture = photo(*size)
    inputs = gemma3.encode(sl.Sample("x", image=picture))
    grids = gemma3.layout(inputs).grids[0]
    found = colours(gemma3, inputs)
    assert len(grids) == len(found) == (1 if size == (100, 100) else len(grids))
    assert grids[0].box == WHOLE
    for grid, colour in zip(grids, found, strict=True):
        assert grid.index == 0, "crops are of the one image"
        assert np.abs(shown(picture, grid) - colour).max() < 6, grid.box


def test_tiles_are_known_in_batches_in_beams_and_in_copies(internvl: sl.VLM) -> None:
    pictures = [photo(600, 300), photo(300, 600, 1), photo(200, 200, 2)]
    two = sl.Sample("xx", images=(pictures[0], pictures[2]))
    inputs = internvl.encode([two, sl.Sample("a longer prompt", image=pictures[1])])
    layout = internvl.layout(inputs)
    assert [{grid.index for grid in mine} for mine in layout.grids] == [{0, 1}, {0}]
    assert all(grid.box is not None for mine in layout.grids for grid in mine)
    copied = {
        name: value.repeat_interleave(2, 0) if name != "pixel_values" else value for name, value in inputs.items()
    }
    copied.pop("pixel_values")
    beams = internvl.layout(copied)
    assert [[grid.box for grid in mine] for mine in beams.grids] == [
        [grid.box for grid in mine] for mine in layout.grids for _ in range(2)
    ]
    alone = internvl.encode(two)
    assert [grid.box for grid in internvl.layout(alone).grids[0]] == [grid.box for grid in layout.grids[0]]


def test_prompts_alike_with_pictures_cut_in_other_ways_are_not_mistaken(internvl: sl.VLM) -> None:
    wide, high = (internvl.encode(sl.Sample("x", image=photo(*size))) for size in ((400, 200), (200, 400)))
    assert torch.equal(wide["input_ids"], high["input_ids"])
    boxes = [[grid.box for grid in internvl.layout(inputs).grids[0]] for inputs in (wide, high)]
    assert None not in boxes[0] + boxes[1]
    assert boxes[0] != boxes[1]
    copy = {"input_ids": wide["input_ids"].clone(), "attention_mask": wide["attention_mask"]}
    assert {grid.box for grid in internvl.layout(copy).grids[0]} <= {None}, "which of the two is not guessed"
    del high
    assert [grid.box for grid in internvl.layout(copy).grids[0]] == boxes[0]


def test_a_map_is_laid_on_a_tiled_photo(internvl: sl.VLM) -> None:
    with sl.Dominance().on(internvl) as probe:
        internvl.generate(internvl.encode(sl.Sample("x", image=photo(600, 400))), max_new_tokens=2)
    assert probe.result().samples
    found = sl.impact(
        internvl, sl.Sample("x", image=photo(600, 400)), mode="causal", tokens="image", unit="patches", block=3
    )
    assert all(source["box"] is not None for source in found.to_dict()["tokens"])


def test_a_picture_that_is_not_cut_up_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("sightline.models.vlm.tiles.measured_boxes", never)
    vlm = sl.load(save_llava(tmp_path / "llava"))
    assert vlm.layout(vlm.encode(sl.Sample("x", image=photo(600, 400)))).grids[0][0].box == WHOLE


class Padding:
    """A processor that puts the picture into a square of black and cuts that in two."""

    def __call__(self, images: list[Image.Image], **_: Any) -> dict[str, torch.Tensor]:
        canvas = Image.new("RGB", (64, 64))
        canvas.paste(images[0].resize((64, 32)), (0, 0))
        halves = [canvas.crop((0, 0, 64, 48)), canvas.crop((0, 0, 64, 32))]
        return {
            "pixel_values": torch.stack(
                [torch.tensor(np.asarray(half.resize((32, 32)))).permute(2, 0, 1) for half in halves]
            )
        }


def test_a_tile_with_padding_on_it_has_no_place() -> None:
    assert measured_boxes(Padding(), (200, 100), {}) == (None, WHOLE)


def test_edges_are_the_parts_they_are_nearest_to() -> None:
    assert _snapped([0.001, 0.332, 0.334, 1.001]) == [0.0, pytest.approx(1 / 3), pytest.approx(1 / 3), 1.0]
    assert _snapped([0.0, 0.481]) == [0.0, 0.481]
