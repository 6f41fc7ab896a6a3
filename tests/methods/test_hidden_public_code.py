"""Methods on hidden states, against what their public code gave on the same numbers: its results alone.

Each repository was run at the commit named, in float32 (its casts to float16 left out), on waves of sines.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from families import BY_NAME
from sightline.methods.directions import _axis
from sightline.methods.hidden import Lens
from sightline.methods.memvr import MemVR, seen_again, uncertainty
from sightline.methods.projectaway import ProjectAway, taken_out
from sightline.methods.vista import VISTA, steered
from sightline.models.anatomy import find_anatomy


def wave(*shape: int, f: float, power: float = 1.0) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.sin(f * torch.arange(count, dtype=torch.float32) ** power + 0.3 * f).reshape(shape)


def test_vista_turns_as_its_public_code() -> None:
    """`VSVLayer` of LzVv123456/VISTA at dc62252, lam 0.17."""
    direction = torch.nn.functional.normalize(wave(6, f=0.7), dim=-1)
    found = steered(2 * wave(3, 6, f=1.3), direction, 0.17)
    expected = [
        [0.825881, 2.244129, 0.654293, -1.540249, -1.216635, 0.935815],
        [2.261622, 0.383865, -1.528740, -0.534090, 1.736777, 1.550934],
        [-0.477205, -1.699927, -0.149348, 1.978087, 1.472430, -1.143320],
    ]
    assert torch.allclose(found, torch.tensor(expected), atol=2e-6)


def test_vista_mixes_the_layers_of_its_public_code() -> None:
    """25 to 30 of its `all_hidden_states[1:]` are states 26 to 31 of 32; never the last one of fewer."""
    anatomy = find_anatomy(BY_NAME["llava"].model())
    deep = [replace(anatomy, layers=anatomy.layers[:1] * depth) for depth in (4, 8, 32)]
    whole = [(len(each.layers), tuple(VISTA().layers_read(each))) for each in deep]
    assert whole == [(4, (3,)), (8, (6, 7)), (32, tuple(range(26, 32)))]


def test_vista_hands_beam_search_log_probabilities_back() -> None:
    """Its code mixes logits before their softmax: a beam's score must not depend on what was taken from a whole row."""
    lens = Lens(find_anatomy(BY_NAME["llava"].model()))
    lens.states[3] = wave(2, lens.anatomy.text_config.hidden_size, f=0.8)
    logits = 3 * wave(2, lens.anatomy.text_config.vocab_size, f=1.1)
    mixed, normed = VISTA().scores(logits, lens, 0), VISTA().scores(logits.log_softmax(-1), lens, 0)
    assert torch.allclose(normed, mixed.log_softmax(-1), atol=1e-5)
    assert not torch.allclose(normed, mixed, atol=1e-2)


def test_vtis_axis_is_that_of_its_public_code() -> None:
    """`obtain_textual_vti` and `obtain_visual_vti` of shengliu66/VTI at bb5dfee, less what they drop."""
    text = wave(4, 3, 4, f=1.3, power=1.1) - wave(4, 3, 4, f=0.7, power=1.1)
    found = (text.mean(0) + _axis(text))[1:]
    expected = [-0.018288, 0.307667, 0.646315, 0.913320, -0.537600, -1.340950, -0.004200, 0.469666]
    assert found.flatten().tolist() == pytest.approx(expected, abs=5e-6)
    tower = wave(4, 3, 5, 4, f=1.9, power=1.1) - wave(4, 3, 5, 4, f=0.9, power=1.1)
    found = (tower.mean(0) + _axis(tower))[1:]
    assert found[0, 0].tolist() == pytest.approx([0.898911, -0.691998, -0.726616, 0.429960], abs=5e-6)
    assert found[1, 4].tolist() == pytest.approx([0.475582, -0.257941, -0.240168, 0.303904], abs=5e-6)


def test_memvr_shows_the_image_again_as_its_public_code() -> None:
    """`LlamaMLP` of 1zhou-Wang/MemVR at de2e3cf, behind an image of three tokens, r 0.12; and its entropy."""
    x, image = wave(5, 4, f=1.3), wave(3, 4, f=0.6)
    gate, up, down = wave(6, 4, f=0.7), wave(6, 4, f=1.1), wave(4, 6, f=1.9)
    out = (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T
    expected = [
        [1.475682, -2.543469, -3.363343, -0.142683],
        [1.616736, -0.174622, -1.663228, -0.940606],
        [3.045328, 1.163442, -2.158516, -2.641383],
        [0.231444, -0.693943, -0.895478, 0.002383],
        [0.125851, -1.050696, -1.034423, 0.028191],
    ]
    found = seen_again(x, out, image, 0.12, torch.ones(5, dtype=torch.bool))
    assert torch.allclose(found, torch.tensor(expected), atol=5e-6)
    assert uncertainty(3 * wave(1, 40, f=0.9, power=1.2)).tolist() == pytest.approx([0.998021126], abs=1e-6)


def test_memvr_looks_at_the_layers_of_its_public_code() -> None:
    """`layer > 5 and layer < 16` of 32, counted from 0."""
    anatomy = find_anatomy(BY_NAME["llava"].model())
    assert tuple(MemVR().layers(replace(anatomy, layers=anatomy.layers[:1] * 32))) == tuple(range(6, 16))


def test_projectaway_takes_words_out_as_its_public_code() -> None:
    """`subtract_projections` of nickjiang2378/vl-interp at 5cd5a3c, two words one after the other, weight 1.5."""
    x = 2 * wave(4, 5, f=1.3)
    for word in (wave(5, f=0.7), 3 * wave(5, f=0.4)):
        x = taken_out(x, torch.nn.functional.normalize(word, dim=-1), 1.5)
    expected = [
        [0.688496, 1.713572, -0.042528, -2.079047, -1.323227],
        [1.136161, 1.871691, -0.151183, -1.973294, -0.919849],
        [1.467235, 1.702081, -0.556625, -1.999874, -0.513306],
        [1.725257, 1.436314, -0.956831, -1.948216, -0.085460],
    ]
    assert torch.allclose(x, torch.tensor(expected), atol=5e-6)


class _Pieces:
    """A tokenizer that puts a token for the space before a word, as Llama's does for a word behind a space."""

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert text.startswith(" ")
        assert not add_special_tokens
        return {"input_ids": [29871, *(ord(letter) for letter in text[1:3])]}

    def decode(self, ids: list[int]) -> str:
        return "" if ids == [29871] else chr(ids[0])


def test_a_space_of_its_own_is_no_part_of_a_word_that_is_taken_out() -> None:
    """vl-interp runs the word's own tokens behind the one that begins a text."""
    named = SimpleNamespace(tokenizer=_Pieces())
    assert ProjectAway(words=("dog",), tokens=(3,))._ids(named) == [[3], [ord("d"), ord("o")]]
