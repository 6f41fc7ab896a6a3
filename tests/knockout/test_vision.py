"""Parts of the picture painted over; and on fresh scenes, that what is asked for is what matters."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.errors import InputError
from sightline.knockout import ImpactMap, Source
from sightline.knockout.parts import image_parts
from sightline.knockout.study import Study
from sightline.knockout.vision import in_batches, paint_over, picture_cells, vision_effects
from sightline.models.layout import Modality, PatchGrid, TokenLayout
from sightline.zoo.render import render
from sightline.zoo.world import Scene, draw_scenes

SCENES, SEED = 12, 777_000


@cache
def tiny() -> Any:
    return sl.load("tiny-llava", device="cpu")


def noise(size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("fill", ["gray", "mean", "blur"])
def test_only_the_box_is_painted_over(fill: str) -> None:
    before = np.asarray(noise())
    after = np.asarray(paint_over(noise(), [(0.25, 0.0, 0.5, 0.5)], fill))
    box = np.zeros((30, 40), dtype=bool)
    box[:15, 10:20] = True
    assert (after[~box] == before[~box]).all()
    assert after[box].std() < 0.5 * before[box].std()
    if fill == "gray":
        assert (after[box] == 128).all()
    if fill == "mean":
        assert after[box][0] == pytest.approx(before.reshape(-1, 3).mean(0), abs=0.5)


def test_a_box_smaller_than_a_pixel_paints_nothing() -> None:
    assert paint_over(noise((1, 1)), [(0.1, 0.1, 0.2, 0.2)], "blur").tobytes() == noise((1, 1)).tobytes()


def test_cells_follow_the_patches_of_the_model() -> None:
    modality = torch.tensor([[1, 2, 2, 2, 2, 2, 2, 1]], dtype=torch.int8)
    grid = PatchGrid(Modality.IMAGE, 0, torch.arange(1, 7).reshape(2, 3))
    known = TokenLayout(modality, 8, ((grid,),), torch.zeros_like(modality).bool())
    first, second = picture_cells(known, 2)
    assert (first.rows, first.columns, second.rows, second.columns) == (2, 3, 8, 8)
    block = first.block(0, 1, 2)
    assert block.positions == (2, 3, 5, 6)
    assert block.box == (pytest.approx(1 / 3), 0.0, 1.0, 1.0)
    assert not second.block(0, 0, 1).positions


def test_batches_shrink_where_memory_is_short() -> None:
    sizes = []

    def run(part: slice) -> torch.Tensor:
        sizes.append(part.stop - part.start)
        if part.stop - part.start > 2:
            raise MemoryError
        return torch.arange(part.start, part.stop)

    assert in_batches(7, 8, run).tolist() == list(range(7))
    assert max(sizes[2:]) == 2


def test_in_batches_is_one_by_one() -> None:
    scene = next(iter(draw_scenes(1, SEED)))
    sample = sl.Sample(image=render(scene, 48), prompt="is there a red circle in the image ?")
    found = sl.impact(tiny(), sample, mode="vision", block=3, control=2)
    assert [source.text for source in found.tokens][:2] == ["rows 0-2, columns 0-2", "rows 0-2, columns 3-5"]
    assert found.maps["logit"].shape == (1, 4)
    assert found.control_maps["logit"].shape == (1, 2)
    assert [len(control.positions) for control in found.controls] == [9, 9]
    inputs = tiny().encode(sample)
    with torch.no_grad():
        before = tiny().model(**inputs).logits[0, -1]
        token = int(before.argmax())
        for place, source in enumerate(found.tokens):
            painted = paint_over(sample.load_images()[0], [source.box or (0, 0, 1, 1)])
            after = tiny().model(**tiny().encode(sl.Sample(image=painted, prompt=sample.prompt))).logits[0, -1]
            assert found.maps["logit"][0, place] == pytest.approx(float(after[token] - before[token]), abs=1e-3)


def test_the_second_picture_is_painted_over_alone() -> None:
    two = sl.Sample(images=(noise(), noise((48, 48))), prompt="is there a red circle in the image ?")
    found = sl.impact(tiny(), two, mode="vision", block=6)
    assert [source.image for source in found.tokens] == [0, 1]


def test_one_sentence_each() -> None:
    sample = sl.Sample(image=noise(), prompt="is there a star ?")
    with pytest.raises(InputError, match="no picture in the sample"):
        vision_effects(tiny(), sl.Sample(prompt="is there a star ?"))
    with pytest.raises(InputError, match="no fill called 'black'; use gray, blur or mean"):
        sl.impact(tiny(), sample, mode="vision", fill="black")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give a model loaded by"):
        sl.impact(tiny().model, tiny().encode(sample), mode="vision")
    with pytest.raises(InputError, match="has no setting window, which is of the modes causal and tower"):
        sl.impact(tiny(), sample, mode="vision", window=3)


# What is asked for --------------------------------------------------------------------------------------------------


def object_and_others(make: Callable[[sl.Sample, list[Source]], ImpactMap], scenes: int = SCENES) -> Any:
    """[scenes, 2]: mean size of the change of the log-probability, of the asked-for object's cells and of two others.

    Each scene is asked for its first object. make: from the sample and the cells, 2 x 2 patches each, to their map.
    """
    found = []
    for scene in draw_scenes(scenes, SEED):
        kind = scene.items[0].kind
        sample = sl.Sample(image=render(scene, 48), prompt=f"is there a {kind} in the image ?")
        mine = [cell for cell in _blocks() if _at(cell) in _cells(scene)]
        others = [cell for cell in _blocks() if _at(cell) not in _cells(scene)]
        chosen = [*mine, *random.Random(str(scene.seed)).sample(others, 2)]
        result = make(sample, chosen)
        sizes = np.abs(result.values("logprob")).mean(0)
        effect = {source.positions: size for source, size in zip(result.tokens, sizes, strict=True)}
        effects = [effect[cell.positions] for cell in chosen]
        found.append((np.mean(effects[: len(mine)]), np.mean(effects[len(mine) :])))
    return np.array(found)


@cache
def _blocks() -> tuple[Source, ...]:
    """The nine cells of the world as blocks of patches, where every prompt with one picture has them."""
    inputs = tiny().encode(sl.Sample(image=noise((48, 48)), prompt="is there a star ?"))
    (cells,) = picture_cells(tiny().layout(inputs), 1)
    return tuple(cells.blocks(2))


def _at(cell: Source) -> tuple[int, int]:
    return (cell.row or 0) // 2, (cell.col or 0) // 2


def _cells(scene: Scene) -> set[tuple[int, int]]:
    """Cells of the 3 x 3 world that hold the asked-for kind; a cell is 2 x 2 patches."""
    return {(item.row, item.column) for item in scene.items if item.kind == scene.items[0].kind}


def test_the_asked_for_object_stands_out_when_it_is_cut_from_every_row() -> None:
    """Cells of 2 x 2 patches in layer 0, where the question's words read them."""

    def cut(sample: sl.Sample, cells: list[Source]) -> ImpactMap:
        groups = [cell.positions for cell in cells]
        return sl.impact(tiny(), sample, positions=groups, scope="every-row", layers=[0])

    found = object_and_others(cut)
    assert found[:, 0].mean() > 1000 * found[:, 1].mean()
    assert (found[:, 0] > found[:, 1]).mean() >= 0.9


def test_the_asked_for_object_stands_out_in_what_the_command_draws() -> None:
    """As `sightline impact` does it by default, beside the map of single edges: the cells of the whole picture."""

    def parts(sample: sl.Sample, _: list[Source]) -> ImpactMap:
        found = image_parts(tiny(), sample, Study(reference=True))
        assert found is not None
        assert [source.positions for source in found.tokens] == [cell.positions for cell in _blocks()]
        return found

    found = object_and_others(parts)
    assert found[:, 0].mean() > 1000 * found[:, 1].mean()
    assert (found[:, 0] > found[:, 1]).mean() >= 0.8


def test_the_last_row_hardly_reads_the_object_itself() -> None:
    """What the answer knows of the object has come to its row by way of the question: edges from patches say little."""

    def cut(sample: sl.Sample, cells: list[Source]) -> ImpactMap:
        return sl.impact(tiny(), sample, positions=[cell.positions for cell in cells], layers=[6])

    found = object_and_others(cut)
    assert found[:, 0].mean() < 0.01, "nats"


def test_the_asked_for_object_stands_out_in_the_picture() -> None:
    found = object_and_others(lambda sample, _: sl.impact(tiny(), sample, mode="vision", block=2))
    assert found[:, 0].mean() > 100 * found[:, 1].mean()
