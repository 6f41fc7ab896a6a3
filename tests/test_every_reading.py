"""Every reading and artifact on every family with pictures: a figure that a plain pass confirms, or one sentence.

That each reading is its formula is proven elsewhere, on fewer families. Here one law holds each on all of them, those
for which no rule was written among them; a reading that a model can't have is refused, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sightline as sl
from families import AUDIO, BY_NAME, EVERY, IMAGE, TEXT, VIDEO, Case
from sightline.errors import SightlineError
from sightline.knockout.heads import head_effects
from sightline.knockout.patch import Pair, patch_effects
from sightline.methods.hidden import feed_forward
from sightline.models.anatomy import find_anatomy
from sightline.models.anatomy.vision_layers import image_tower, tower_layers
from sightline.models.logits import plain_pass
from sightline.probes.image_lens import lens_at
from sightline.probes.register_neurons import tower_norms
from support.leftovers import state_of
from support.plain_readings import hooked, last_rows

FAMILIES = [family.name for family in EVERY if family.modality not in (TEXT, AUDIO)]


@cache
def case_of(family: str) -> Case:
    return BY_NAME[family].make_inputs(1, None)


def model_of(family: str) -> Any:
    return BY_NAME[family].model()


def image_of(family: str) -> list[int]:
    return [place for place, kind in enumerate(case_of(family).modality[0]) if kind in (IMAGE, VIDEO)]


@cache
def other_of(family: str) -> dict[str, Tensor]:
    """The same prompt with another picture."""
    inputs = case_of(family).inputs
    return {
        name: value.flip(-1) * 3 + 1 if "pixel" in name and value.is_floating_point() else value
        for name, value in inputs.items()
    }


def passed(family: str, inputs: dict[str, Tensor], modules: Any) -> tuple[list[Tensor], Tensor]:
    """What these modules put out in a plain pass, and the last row's logits."""
    seen: list[Tensor] = []

    def note(module: Any, args: Any, output: Any) -> None:
        seen.append((output if isinstance(output, Tensor) else output[0]).detach())

    with torch.no_grad(), hooked(*((module, note) for module in modules)):
        logits = model_of(family)(**inputs, use_cache=False).logits[0, -1]
    return seen, logits


@cache
def plain(family: str) -> tuple[list[Tensor], Tensor]:
    return passed(family, case_of(family).inputs, find_anatomy(model_of(family)).layers)


def lens(family: str, folder: Path) -> None:
    model, inputs, (_, logits) = model_of(family), case_of(family).inputs, plain(family)
    found = lens_at(find_anatomy(model), inputs, [inputs["input_ids"].shape[1] - 1], [17, int(logits.argmax())])
    assert torch.allclose(found[-1, 0], logits.float().softmax(-1)[[17, int(logits.argmax())]], atol=1e-4)
    of_image = sl.image_lens(model, inputs, [17])
    assert of_image.positions.tolist() == image_of(family)
    grids = case_of(family).grids
    assert [tuple(grid.shape) for grid in of_image.grids] == list(grids[0] if grids else ())
    if of_image.grids:
        assert of_image.map().isfinite().all()
        return
    with pytest.raises(SightlineError, match="no rows and columns"):
        of_image.map()


def heads(family: str, folder: Path) -> None:
    model, inputs = model_of(family), case_of(family).inputs
    anatomy, (_, logits) = find_anatomy(model), plain(family)
    found = head_effects(model, inputs, target=17)
    assert found.exact is not None
    assert found.log_probability == pytest.approx(float(logits.float().log_softmax(-1)[17]), abs=1e-4)
    for values in (found.exact, found.gradient):
        assert values.shape == (len(anatomy.attention_layers), anatomy.num_heads)
        assert values.isfinite().all()
        assert values.abs().min(0).values.max() > 0
    with sl.ADHH(heads=found.strongest(2), threshold=0).on(model):
        assert not torch.equal(plain_pass(model, inputs).logits[0, -1], logits)


def patch(family: str, folder: Path) -> None:
    model, one, other = model_of(family), case_of(family).inputs, other_of(family)
    anatomy, (_, logits), (_, others) = find_anatomy(model), plain(family), passed(family, other_of(family), ())
    word, against = next(pair for pair in ((17, 18), (19, 20)) if abs(span(logits, others, *pair)) > 1e-3)
    pair = Pair(
        one, other, word, against, float(others[word] - others[against]), span(logits, others, word, against), 0
    )
    end = one["input_ids"].shape[1] - 1
    found = patch_effects(anatomy, pair, [range(end + 1), [end], image_of(family)], [len(anatomy.layers) - 1])
    assert found["recovered"][0].tolist() == pytest.approx([1, 1, 0], abs=2e-3), "the last row alone is read"
    part = patch_effects(anatomy, pair, [range(end + 1)], [anatomy.attention_layers[0]], "mlp")
    assert all(values.isfinite().all() for values in (*found.values(), *part.values()))


def span(one: Tensor, other: Tensor, word: int, against: int) -> float:
    return float(one[word] - one[against] - other[word] + other[against])


def localize(family: str, folder: Path) -> None:
    found = sl.localize(model_of(family), case_of(family).inputs)
    cells = found.cells[found.cells >= 0].tolist()
    assert set(cells) <= set(image_of(family))
    assert len(set(cells)) == len(cells)
    rows = last_rows(model_of(family), case_of(family).inputs).weights
    for one in found.heads:
        assert torch.allclose(one.map.flatten(), rows[one.layer][0, one.head, found.cells.flatten()], atol=1e-6)
        assert one.entropy < float("inf")


def relevance(kind: Any) -> Callable[[str, Path], None]:
    def run(family: str, folder: Path) -> None:
        model, inputs = model_of(family), case_of(family).inputs
        found = sl.relevance(model, inputs, kind, target=17)
        assert found.image.tolist() == image_of(family)
        assert found.values.shape == (len(find_anatomy(model).attention_layers), inputs["input_ids"].shape[1])
        assert bool((found.values >= 0).all())
        assert 0 < found.image_share < 1
        if kind == "rollout":
            assert found.values.sum(1) == pytest.approx(torch.ones(len(found.values)), abs=1e-3)

    return run


def direction(family: str, folder: Path) -> None:
    model, anatomy, inputs = model_of(family), find_anatomy(model_of(family)), case_of(family).inputs
    found = sl.find_direction(model, [(inputs, other_of(family))])
    ours, theirs = plain(family)[0], passed(family, other_of(family), anatomy.layers)[0]
    expected = torch.stack([one[0, -1] - two[0, -1] for one, two in zip(ours, theirs, strict=True)])
    assert torch.allclose(found.values, expected, atol=1e-3, rtol=1e-3)
    found.save(folder / "text.safetensors")
    parts = [feed_forward("steer", anatomy, layer) for layer in range(len(anatomy.layers))]
    unit = torch.nn.functional.normalize(found.values, dim=-1)

    def turn(layer: int) -> Any:
        def change(module: Any, args: Any, output: Any) -> Any:
            x = output if isinstance(output, Tensor) else output[0]
            assert x.shape[-1] == found.values.shape[-1], "the width of the layer's state"
            turned = x / x.norm(dim=-1, keepdim=True) + 0.3 * unit[layer]
            turned = x.norm(dim=-1, keepdim=True) * turned / turned.norm(dim=-1, keepdim=True)
            return turned if isinstance(output, Tensor) else (turned, *output[1:])

        return change

    with torch.no_grad(), hooked(*((part, turn(layer)) for layer, part in enumerate(parts))):
        by_hand = model(**inputs, use_cache=False).logits[0, -1]
    with torch.no_grad(), sl.Steer(str(folder / "text.safetensors"), 0.3).on(model):
        assert torch.allclose(plain_pass(model, inputs).logits[0, -1], by_hand, atol=1e-3, rtol=1e-3)


def tower(family: str, folder: Path) -> None:
    model, inputs = model_of(family), case_of(family).inputs
    found = sl.find_direction(model, [(inputs, other_of(family))], part="tower")
    assert bool((found.values.norm(dim=-1) > 0).all())
    found.save(folder / "tower.safetensors")
    with torch.no_grad(), sl.VTI(vision=str(folder / "tower.safetensors"), beta=5).on(model):
        assert not torch.allclose(plain_pass(model, inputs).logits[0, -1], plain(family)[1], atol=1e-4)


def registers(family: str, folder: Path) -> None:
    model, inputs = model_of(family), case_of(family).inputs
    anatomy = find_anatomy(model)
    found = tower_norms(anatomy, inputs)
    tower = image_tower(anatomy)
    assert tower is not None
    expected = [state.norm(dim=-1).flatten() for state in passed(family, inputs, dict(tower_layers(tower)))[0]]
    known = ~found.values[0].isnan()
    assert torch.allclose(found.values[:, known], torch.stack(expected)[:, known], atol=1e-4)
    assert sum(found.sizes) == found.values.shape[1]
    with torch.no_grad(), sl.Registers(("0.1", "0.2", "0.3")).on(model):
        assert not torch.allclose(plain_pass(model, inputs).logits[0, -1], plain(family)[1], atol=1e-6)


READINGS: dict[str, Callable[[str, Path], None]] = {
    "lens": lens,
    "localize": localize,
    "rollout": relevance("rollout"),
    "relevancy": relevance("relevancy"),
    "gradient": relevance("gradient"),
    "heads": heads,
    "patch": patch,
    "direction": direction,
    "tower": tower,
    "registers": registers,
}

QUERIES, CROPS = "queries of a resampler", "cut into crops whose places are not known"
LINEAR, WINDOWS, OWN = "no softmax attention to go through", "looks through windows", "which are its own"
REFUSED: dict[str, dict[str, str]] = {
    "localize": dict.fromkeys(("idefics2", "aria", "kosmos2", "blip2", "instructblip"), QUERIES)
    | dict.fromkeys(("idefics3", "smolvlm", "internvl"), CROPS),
    "rollout": dict.fromkeys(("qwen3_5", "qwen3_5_moe", "lfm2_vl", "lfm3_vl"), LINEAR),
    "relevancy": dict.fromkeys(("qwen3_5", "qwen3_5_moe", "lfm2_vl", "lfm3_vl"), LINEAR),
    "tower": {"fuyu": "has no vision tower", "chameleon": "finds no feed-forward parts"},
    "registers": {
        **dict.fromkeys(
            ("qwen2_5_vl", "qwen2_5_vl_video", "qwen2_5_omni_thinker", "minicpmv4_6", "exaone4_5"), WINDOWS
        ),
        **dict.fromkeys(("got_ocr2", "chameleon", "lfm3_vl"), OWN),
        "fuyu": "has no vision tower",
        "llama4": "`freqs_ci`, where a new token has no part",
    },
}
"""What the refusal says."""


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reading", READINGS)
def test_a_reading_is_a_figure_that_a_plain_pass_confirms_or_a_sentence(
    reading: str, family: str, tmp_path: Path
) -> None:
    plain(family)  # the library installs hooks of its own at the first pass
    state = state_of(model_of(family))
    refusal = REFUSED.get(reading, {}).get(family)
    if refusal is None:
        READINGS[reading](family, tmp_path)
    else:
        with pytest.raises(SightlineError, match=refusal) as caught:
            READINGS[reading](family, tmp_path)
        assert str(caught.value).count(". ") == 0
    assert state_of(model_of(family)) == state


def test_a_model_whose_own_forward_fails_is_refused_in_a_sentence_that_names_the_release() -> None:
    model = BY_NAME["llama4"].build()
    case = BY_NAME["llama4"].make_inputs(1, None)
    try:
        model(**case.inputs)
    except AttributeError:
        for read in (sl.localize, sl.relevance, head_effects):
            with pytest.raises(sl.ModelError, match=r"fails by itself in Transformers .* another release may run it"):
                read(model, case.inputs)
