"""Localization heads and the logit lens on image tokens equal their plain formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import sightline as sl
from families import BY_NAME, IMAGE, VIDEO, Case
from sightline.errors import InputError
from sightline.models.anatomy import find_anatomy
from sightline.models.layout.patches import WHOLE
from sightline.probes.localization import LocatingHead, elbow, frequent_heads, spatial_entropy
from support.leftovers import state_of
from support.plain_readings import last_rows, read_out

FAMILIES = ["llava", "qwen2_5_vl", "gemma3"]


def cells_of(case: Case) -> torch.Tensor:
    """The positions of the first picture's patches, row by row."""
    rows, columns = case.grids[0][0]  # type: ignore[index]
    image = [at for at, kind in enumerate(case.modality[0]) if kind in (IMAGE, VIDEO)]
    return torch.tensor(image[: rows * columns]).reshape(rows, columns)


def test_entropies_and_elbows_are_those_of_the_public_code() -> None:
    """Numbers of seilk/LocalizationHeads at 8ce33b0: `spatial_entropy`, and the sum of `find_elbow_point`'s head."""
    row, column = torch.arange(6.0)[:, None], torch.arange(6.0)
    for number, expected in enumerate((0.60092086, 1.0437846, 1.0177876), 1):
        wave = 2.5 * torch.sin(number * (0.9 * row + 0.7 * column))
        found = spatial_entropy(0.3 * wave.flatten().softmax(0).reshape(6, 6))
        assert found == pytest.approx(expected, rel=1e-5)
    assert elbow([0.5, 0.01, 0.02, 0.6, 0.03, 0.9, 1.0]) == 0.03
    assert elbow([0.0, 0.8, 0.85, 0.9, 0.95, 1.0]) == 0.8, "above the chord"
    assert elbow([0.1, 0.2, 0.9, 0.92, 0.95, 0.97]) == 0.9, "on both sides of it"


def test_spatial_entropy_counts_places_that_touch_at_corners_as_one() -> None:
    one, two = torch.zeros(6, 6), torch.zeros(6, 6)
    one[0, 0] = one[1, 1] = 0.4
    two[0, 0] = two[4, 4] = 0.4
    assert spatial_entropy(one) == pytest.approx(0, abs=1e-6)
    assert spatial_entropy(two) == pytest.approx(math.log(2))
    assert spatial_entropy(torch.zeros(6, 6)) == math.inf


def test_the_elbow_is_farthest_from_the_chord() -> None:
    assert elbow([0.0, 0.01, 0.02, 0.03, 0.9, 1.0]) == 0.03
    assert elbow([0.2, 0.2, 0.2]) == 0.2


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_are_those_above_the_elbow_by_their_entropy(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    model(**case.inputs)  # the library installs hooks of its own at the first pass
    state = state_of(model)
    found = sl.localize(model, case.inputs)
    rows = last_rows(model, case.inputs).weights
    cells = cells_of(case)
    maps = {f"{layer}.{head}": one[cells] for layer in rows for head, one in enumerate(rows[layer][0]) if layer >= 2}
    sums = {name: float(one.sum()) for name, one in maps.items()}
    threshold = elbow(list(sums.values()))
    kept = [
        name
        for name, one in maps.items()
        if sums[name] >= threshold
        and bool((one > one.mean() + 0.001).any())
        and not bool((one[-1] > one.mean() + 0.001).all())
    ]
    assert found.threshold == pytest.approx(threshold)
    assert {one.name for one in found.heads} == set(kept)
    assert [one.entropy for one in found.heads] == sorted(one.entropy for one in found.heads)
    for one in found.heads:
        assert torch.allclose(one.map, maps[one.name])
    assert state_of(model) == state


def test_the_box_is_around_the_largest_hull_of_the_smoothed_map() -> None:
    attention = torch.zeros(10, 12)
    attention[2:5, 2:8] = 0.2
    attention[9, 11] = 0.9
    found = sl.Localization((LocatingHead(3, 1, 1.3, 0.2, attention), LocatingHead(2, 0, 1.0, 0.5, attention)), 0.1)
    assert found.box(sigma=0) == (2, 2, 5, 8)
    smooth = torch.zeros(10, 12, dtype=torch.float64)
    offsets = range(-3, 4)
    kernel = [math.exp(-(step**2) / 2) for step in offsets]
    for at in ((row, column) for row in range(10) for column in range(12)):
        for down, right in ((down, right) for down in offsets for right in offsets):
            row, column = (
                -1 - place if place < 0 else 2 * size - 1 - place if place >= size else place
                for place, size in ((at[0] + down, 10), (at[1] + right, 12))
            )
            weight = kernel[down + 3] * kernel[right + 3] / sum(kernel) ** 2
            smooth[at] += 2 * weight * float(attention[row, column])
    assert torch.allclose(found.map(2, sigma=1.0), smooth, atol=1e-9)
    lit = (smooth > smooth.mean())[:8, :10].nonzero()
    low, high = lit.amin(0).tolist(), (lit.amax(0) + 1).tolist()
    assert found.box() == (*low, *high)
    assert torch.equal(found.map(["2.0"]), attention)
    assert frequent_heads([found, found], count=1) == ("3.1",)
    with pytest.raises(InputError, match="No head looks at one place"):
        found.map(["9.9"])
    with pytest.raises(InputError, match="look everywhere alike"):
        sl.Localization((LocatingHead(3, 1, 1.0, 0.0, torch.ones(4, 4)),), 0.1).box()


def test_a_picture_in_crops_is_localized_in_the_crop_that_shows_it_whole() -> None:
    model, inputs = BY_NAME["idefics3"].model(), BY_NAME["idefics3"].make_inputs(1, None).inputs
    layout = sl.layout_of(find_anatomy(model), inputs)
    quarter, half, last = layout.grids[0]
    grids = (replace(quarter, box=(0, 0, 0.5, 1)), replace(half, box=(0.5, 0, 1, 1)), replace(last, box=WHOLE))
    known = replace(layout, grids=(tuple(replace(grid, index=0) for grid in grids),))
    vlm = SimpleNamespace(anatomy=find_anatomy(model), layout=lambda inputs: known)
    assert torch.equal(sl.localize(vlm, inputs).cells, last.positions)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lens_is_the_unembedding_of_each_image_token(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    image = [at for at, kind in enumerate(case.modality[0]) if kind in (IMAGE, VIDEO)]
    with torch.no_grad():
        hidden = model(**case.inputs, output_hidden_states=True).hidden_states
    state = state_of(model)
    found = sl.image_lens(model, case.inputs, [17, 33])
    for layer in range(len(hidden) - 2):  # the library's last state is behind the norm
        expected = read_out(model, hidden[layer + 1][0, image]).softmax(-1)[:, [17, 33]]
        assert torch.allclose(found.confidence[layer], expected, atol=1e-5)
    assert torch.equal(found.internal(), found.confidence.amax((0, 1)))
    cells = cells_of(case)
    flat = found.map(1, layer=0)
    assert flat.shape == cells.shape
    assert float(flat[0, 0]) == float(found.confidence[0, image.index(int(cells[0, 0])), 1])
    assert state_of(model) == state


def test_what_has_no_image_or_no_tokenizer_is_refused() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    with pytest.raises(InputError, match="'dog' needs a tokenizer"):
        sl.image_lens(model, case.inputs, ["dog"])
    text = {"input_ids": torch.tensor([[1, 5, 9]])}
    with pytest.raises(InputError, match="takes one prompt with an image"):
        sl.image_lens(model, text, [3])
    with pytest.raises(InputError, match="whose patches are a grid"):
        sl.localize(model, text)
    with pytest.raises(InputError, match="No layer from 4 on has softmax attention"):
        sl.localize(model, case.inputs, first_layer=4)
