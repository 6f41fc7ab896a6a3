"""The controls of FasterVLM, FastV, PAI and VAF: as many tokens, but random ones; the same change, but on text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.plain import Rows
from families import BY_NAME, IMAGE
from sightline.attention import attach
from sightline.errors import InputError
from sightline.methods.base import parse_spec
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.fastv import FastV
from sightline.methods.random_tokens import RandomFasterVLM, RandomFastV, random_order
from sightline.models.anatomy import find_anatomy

COUNTS = st.integers(1, 40)


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.floats(0, 0.99), st.integers(0, 99))
def test_as_many_stay_whatever_is_drawn(count: int, share: float, seed: int) -> None:
    torch.manual_seed(count)
    scores, image = torch.rand(count + 6), torch.zeros(count + 6, dtype=torch.bool)
    image[3 : 3 + count] = True
    patches = scores[:count]
    assert RandomFasterVLM(r=share, seed=seed).pick(patches).sum() == FasterVLM(r=share).pick(patches).sum()
    kept, random = (kind(R=share).keep(scores, image) for kind in (FastV, RandomFastV))
    assert kept.sum() == random.sum()
    assert random[~image].all()


def test_the_draw_is_the_images_and_the_seeds() -> None:
    torch.manual_seed(0)
    scores = torch.rand(36)
    # Rounding, as another place in a batch brings, moves nothing; another image or seed does.
    assert torch.equal(random_order(0, scores), random_order(0, scores * (1 + 1e-7)))
    assert not torch.equal(random_order(0, scores), random_order(1, scores))
    assert not torch.equal(random_order(0, scores), random_order(0, scores.flip(0)))
    assert random_order(0, scores).sort().values.tolist() == list(range(36))
    drawn = torch.stack([RandomFasterVLM(r=0.9, seed=seed).pick(scores) for seed in range(200)])
    assert bool(drawn.any(0).all())


@pytest.mark.parametrize(
    ("spec", "spared"), [("pai:gamma=1,alpha=0.4", None), ("vaf:enhance=1.5,suppress=1", "system")]
)
def test_text_is_raised_in_place_of_the_image(spec: str, spared: str | None) -> None:
    """Between two image tokens, and between two tokens of the text before the image in VAF, the ratio stays."""
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    kinds = torch.tensor(case.modality)

    def weights(spec: str) -> torch.Tensor:
        method, reader = parse_spec(spec), Rows()
        assert method is not None
        with torch.no_grad(), method.on(model), attach(find_anatomy(model), reader=reader):
            model(**case.inputs)
        layer = 2 if spec.startswith("pai") else 1
        return reader.steps[0][layer][:, :, -1]

    plain, ours = weights(spec.split(":")[0] + ":" + IDLE[spec.split(":")[0]]), weights(spec + ",target=text")
    for sample, row in enumerate(kinds):
        ratio = ours[sample] / plain[sample]
        image = ratio[:, row == IMAGE]
        assert torch.allclose(image, image[:, :1].expand_as(image), rtol=1e-4)
        first = int((row == IMAGE).nonzero().min())
        before, behind = (ratio[:, part] for part in (_text(row, 0, first), _text(row, first, len(row))))
        assert bool((before / image[:, :1] - 1).abs().max() < 1e-4) == (spared == "system")
        assert float((behind / image[:, :1] - 1).abs().max()) > 1e-3


IDLE = {"pai": "gamma=1,alpha=0", "vaf": "enhance=1,suppress=1"}


def _text(row: torch.Tensor, start: int, end: int) -> torch.Tensor:
    place = torch.arange(len(row))
    return (row == 1) & (place >= start) & (place < end)


@pytest.mark.parametrize("spec", ["pai:target=sound", "vaf:target=sound"])
def test_a_target_there_is_not(spec: str) -> None:
    with pytest.raises(InputError, match="image or text"):
        parse_spec(spec)


def test_specs() -> None:
    made: Any = parse_spec("fastervlm_random:r=0.75,seed=3")
    assert made == RandomFasterVLM(r=0.75, seed=3)
    assert made.spec() == "fastervlm_random:r=0.75,seed=3"
    assert parse_spec("fastv_random:K=3") == RandomFastV(K=3)
