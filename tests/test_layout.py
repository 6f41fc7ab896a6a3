"""The layout of every family, batch and padding, against what is known from how the prompt was written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from families import BY_NAME, EVERY, Family, str_of
from sightline.errors import LayoutError
from sightline.models.anatomy import find_anatomy
from sightline.models.layout import Modality, layout_of

SHAPES = [(1, None, 1), (1, None, 2), (2, None, 1), (2, "left", 2), (2, "right", 2)]


@pytest.mark.parametrize(("batch", "padding", "images"), SHAPES, ids=str)
@pytest.mark.parametrize("family", EVERY, ids=str_of)
def test_positions_and_grids(family: Family, batch: int, padding: str | None, images: int) -> None:
    case = family.make_inputs(batch, padding, min(images, family.max_images))
    layout = layout_of(find_anatomy(family.model()), case.inputs)
    assert layout.modality.tolist() == case.modality
    if case.grids is not None:
        assert [[(grid.rows, grid.columns) for grid in sample] for sample in layout.grids] == case.grids
        for sample, row in zip(layout.grids, case.modality, strict=True):
            for grid in sample:
                assert all(row[position] == grid.modality for position in grid.positions.flatten() if position >= 0)


@pytest.mark.parametrize("family", EVERY, ids=str_of)
def test_a_layout_grows_and_is_reordered(family: Family) -> None:
    layout = layout_of(find_anatomy(family.model()), family.make_inputs(2, "left").inputs)
    grown = layout.grown(3)
    assert grown.prompt_length == layout.prompt_length == layout.length
    assert grown.length == layout.length + 3
    assert (grown.modality[:, layout.length :] == Modality.TEXT).all()
    assert grown.grids == layout.grids
    for index in range(2):
        assert torch.equal(layout.sample(index).modality[0], layout.modality[index])
    assert torch.equal(layout.repeated(2).modality, layout.modality.repeat_interleave(2, 0))
    assert layout.repeated(2).grids == (layout.grids[0],) * 2 + (layout.grids[1],) * 2
    swapped = layout.reordered(torch.tensor([1, 0, 1]))
    assert torch.equal(swapped.bos, layout.bos[[1, 0, 1]])
    for index in range(2):
        runs = layout.runs(index)
        assert runs[0][0] == 0
        assert runs[-1][1] == layout.length
        assert sum(layout.counts(index).values()) == layout.length
        rebuilt = [kind for start, end, kind in runs for _ in range(end - start)]
        assert rebuilt == layout.modality[index].tolist()
    assert "sample 1: " in str(layout)


def test_the_first_text_position_and_every_bos_token_draw_attention() -> None:
    llava = find_anatomy(BY_NAME["llava"].model())
    layout = layout_of(llava, BY_NAME["llava"].make_inputs(2, "left").inputs)
    pads = layout.counts(0)["padding"]
    assert layout.bos.nonzero().tolist() == [[0, pads], [1, 0]]
    paligemma = find_anatomy(BY_NAME["paligemma"].model())
    layout = layout_of(paligemma, BY_NAME["paligemma"].make_inputs(1).inputs)
    assert layout.bos.nonzero().tolist() == [[0, 9]]  # its image stands first, its BOS token behind
    qwen = find_anatomy(BY_NAME["qwen2_vl"].model())  # no BOS token in the prompt
    assert layout_of(qwen, BY_NAME["qwen2_vl"].make_inputs(1).inputs).bos.nonzero().tolist() == [[0, 0]]


def test_without_a_mask_nothing_is_padding() -> None:
    case = BY_NAME["llava"].make_inputs(1)
    inputs = {name: value for name, value in case.inputs.items() if name != "attention_mask"}
    assert layout_of(find_anatomy(BY_NAME["llava"].model()), inputs).modality.tolist() == case.modality


def test_a_mask_already_laid_out_for_the_layers() -> None:
    case = BY_NAME["gemma3"].make_inputs(2, "left")
    present = case.inputs["attention_mask"].bool()
    causal = torch.ones(present.shape[1], present.shape[1]).tril().bool()
    square = causal[None, None] & present[:, None, None, :]
    added = torch.zeros(square.shape).masked_fill(~square, torch.finfo(torch.float32).min)
    for mask in (square, added, {"full_attention": square, "sliding_attention": square}):
        layout = layout_of(find_anatomy(BY_NAME["gemma3"].model()), {**case.inputs, "attention_mask": mask})
        assert layout.modality.tolist() == case.modality


def test_one_token_a_picture_is_refused() -> None:
    inputs = {"input_ids": torch.tensor([[1, 120, 5]]), "pixel_values": torch.randn(1, 3, 24, 24)}
    with pytest.raises(LayoutError, match="one image token a picture"):
        layout_of(find_anatomy(BY_NAME["llava"].model()), inputs)


def test_one_token_for_images_and_frames_is_told_apart_by_the_types() -> None:
    anatomy = find_anatomy(BY_NAME["qwen2_5_vl"].model())
    inputs = dict(BY_NAME["qwen2_5_vl"].make_inputs(1).inputs)
    inputs["mm_token_type_ids"] = inputs["mm_token_type_ids"] * 2
    inputs["pixel_values_videos"] = inputs.pop("pixel_values")
    inputs["video_grid_thw"] = inputs.pop("image_grid_thw")
    layout = layout_of(anatomy, inputs)
    assert set(layout.counts()) == {"text", "video"}
    assert [grid.frame for grid in layout.grids[0]] == [0]


def test_image_and_video_in_one_prompt() -> None:
    anatomy = find_anatomy(BY_NAME["qwen2_5_vl"].model())
    image = BY_NAME["qwen2_5_vl"].make_inputs(1).inputs
    video = BY_NAME["qwen2_5_vl_video"].make_inputs(1).inputs
    both = {**video, **image}
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        both[name] = torch.cat([image[name], video[name]], 1)
    layout = layout_of(anatomy, both)
    assert [grid.modality for grid in layout.grids[0]] == [Modality.IMAGE] + [Modality.VIDEO] * 3
    assert [grid.frame for grid in layout.grids[0]] == [None, 0, 1, 2]


def test_tokens_that_are_no_square_have_no_grid_and_a_sentence() -> None:
    anatomy = find_anatomy(BY_NAME["llava"].model())
    ids = torch.tensor([[1, *[120] * 7, 5]])
    layout = layout_of(anatomy, {"input_ids": ids, "pixel_values": torch.randn(1, 3, 24, 24)})
    assert layout.grids == ((),)
    assert layout.notes == ("How the 7 image tokens lie in rows and columns is not known, so they have no grid.",)


def test_a_grid_that_contradicts_the_prompt_is_no_grid() -> None:
    anatomy = find_anatomy(BY_NAME["qwen2_5_vl"].model())
    inputs = dict(BY_NAME["qwen2_5_vl"].make_inputs(1).inputs)
    inputs["image_grid_thw"] = torch.tensor([[1, 4, 14]])
    layout = layout_of(anatomy, inputs)
    assert layout.grids == ((),)
    assert len(layout.notes) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input_ids": None}, "input_ids"),
        ({"input_ids": torch.tensor([[1, 5, 6]]), "attention_mask": None}, "no position holds its token id [120]"),
        ({"attention_mask": torch.ones(2, 3)}, "must be alike"),
    ],
)
def test_what_cannot_be_laid_out(change: dict[str, Any], said: str) -> None:
    inputs = {**BY_NAME["llava"].make_inputs(1).inputs, **change}
    with pytest.raises(LayoutError) as caught:
        layout_of(find_anatomy(BY_NAME["llava"].model()), inputs)
    assert said in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_mask_laid_out_for_sliding_windows_tells_padding(padding: str) -> None:
    """Some versions of `generate` hand the model's forward its four-dimensional masks instead of the padding."""
    case = BY_NAME["mistral"].make_inputs(batch=2, padding=padding)
    present = case.inputs["attention_mask"].bool()
    length = present.shape[1]
    rows, columns = torch.arange(length)[:, None], torch.arange(length)
    seen = ((columns <= rows) & (columns > rows - 3))[None] & present[:, None, :]
    anatomy = find_anatomy(BY_NAME["mistral"].model())
    for mask in (seen[:, None], {"sliding_attention": seen[:, None]}):
        found = layout_of(anatomy, {"input_ids": case.inputs["input_ids"], "attention_mask": mask})
        assert torch.equal(found.modality != 0, present)
