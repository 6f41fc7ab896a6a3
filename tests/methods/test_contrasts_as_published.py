"""What the public code of each contrast gave on small tensors, run once and written down, is what ours gives.

Only its numbers stand here. Where that code counts LLaVA's positions (35 before the image, 576 in it), it was run with
3 and 4.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sightline.methods.avisc import AvisC
from sightline.methods.deco import DeCo
from sightline.methods.dola import DoLa
from sightline.methods.m3id import M3ID
from sightline.methods.only import ONLY, text_minded
from sightline.methods.pai import PAI
from sightline.methods.sid import SID
from sightline.methods.vcd import VCD, add_noise
from sightline.methods.yes_bias import YesBias

NONE = -torch.inf
FIRST, SECOND = torch.tensor([[2.0, 1.0, -1.5, 0.5, -0.2]]), torch.tensor([[1.0, 1.5, 0.0, 0.7, -0.9]])
"""Logits of two passes."""
LAYERS = [torch.softmax(1.5 * torch.sin(torch.arange(18.0) * (1.3 + 0.7 * n) + n).view(2, 9), -1) for n in range(4)]
"""By layer the weights of a prompt's last row, [heads, keys]; its image stands at 2 to 7."""


def early(layers: dict[int, list[float]], normed: bool) -> Any:
    """A lens whose logits these are, with the model's last norm or without."""

    def logits(layer: int, norm: bool = True) -> Tensor:
        assert norm == normed
        return torch.tensor([layers[layer]])

    return SimpleNamespace(anatomy=SimpleNamespace(layers=range(4)), logits=logits)


def close(found: Tensor, expected: Any) -> bool:
    return torch.allclose(found.float(), torch.as_tensor(expected), atol=2e-5)


def test_vcd_noises_and_contrasts_as_its_code_does() -> None:
    # DAMO-NLP-SG/VCD d6568ff, vcd_add_noise.py: factors of the image and of the noise at each step
    for step, image, noise in ((0, 0.999989, 0.004728), (1, 0.999978, 0.006695), (500, 0.863017, 0.505175)):
        drawn = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        assert close(add_noise(torch.ones(1, 3, 2, 2), step), image + noise * drawn)
    # vcd_sample.py; an answer differs from log-probabilities by one number a row
    found = VCD().combine(FIRST, SECOND, 0)
    assert close(found - found[0, 0], [[0, -2.5, NONE, -2.7, -2.5]])


def test_m3id_grows_as_in_the_code_of_others() -> None:
    # zifuwan/ONLY 109bffe and sangminwoo/AvisC 772eba4, at the first and at the 50th token
    as_in = {"only": M3ID(), "avisc": M3ID(first=1)}
    expected = {
        ("only", 0): [0.587609, 0.216169, 0, 0.131113, 0.065109],
        ("avisc", 0): [0.593536, 0.211832, 0, 0.129264, 0.065368],
        ("only", 49): [0.886662, 0.026864, 0, 0.026846, 0.059628],
        ("avisc", 49): [0.890865, 0.024898, 0, 0.025286, 0.058951],
    }
    for (name, step), shares in expected.items():
        assert close(as_in[name].combine(FIRST, SECOND, step).softmax(-1), [shares])


def test_avisc_leaves_the_tokens_that_its_code_leaves() -> None:
    # sangminwoo/AvisC 772eba4, avisc_sample.py; the layers are 3, 3 and 0, and all four
    weights = torch.stack([layer.mean(0)[2:8] for layer in LAYERS])
    for gamma, lam, silent in ((0.2, 0.3, [0, 1, 2, 4]), (0.5, 0.3, [1, 2, 3, 4]), (0.8, 1.0, [0, 1, 2, 3, 4])):
        assert (~AvisC(gamma=gamma, lam=lam).blind(weights)).nonzero()[:, 0].tolist() == silent
    assert AvisC().blind(weights[:, :1]).all()


def test_sid_hides_the_tokens_that_its_code_hides() -> None:
    # huofushuo/SID 127dd41, modeling_llama.py, with the layer before's weights and 2 tokens left
    index = torch.arange(9)
    found = SID(keep=2).hidden(LAYERS[1].mean(0)[None], ((index > 1) & (index < 8))[None])
    assert found[0].nonzero()[:, 0].tolist() == [3, 4, 6, 7]
    # vcd_sample.py, which is handed no alpha and takes 0.5
    scores = SID().combine(FIRST, SECOND, 0)
    assert close(scores - scores[0, 0], [[0, -1.75, NONE, -2.1, -2.35]])


def test_pai_guides_as_its_code_does() -> None:
    # LALBJ/PAI 9bbd8bd, CFG.py
    assert close(PAI().combine(FIRST, SECOND, 0), [[-0.467934, -1.617934, NONE, -2.087934, -2.697934]])


def test_the_controls_act_as_their_code_does() -> None:
    # ustc-hyin/cd_rethink 4303279, olm_utils.py with yes at 0 and no at 1
    rows = torch.tensor([[0.0, 1, -1, 0, -2], [0.5, 3, -1, 0, 0], [0, 0.5, 4, 2, 0], [-0.4, 1.2, 0.1, 0.2, -1]])
    assert YesBias().tilt(rows, torch.tensor([0]), torch.tensor([1])).argmax(-1).tolist() == [0, 1, 2, 0]


def test_dola_takes_the_layer_that_its_code_takes() -> None:
    # voidism/DoLa 11b73b7, dola_greedy_decode; the divergence of the paper would take layer 3
    logits = torch.tensor([[-2.1, 2.0, -1.6, 2.7, 3.2, 0.4, -3.8, -0.5]])
    layers = {
        1: [3.0, -4.4, -2.8, 7.6, 8.7, 0.0, 1.6, -1.2],
        2: [-4.4, -0.4, -0.1, -1.2, 3.4, 0.4, -4.4, -0.7],
        3: [2.6, -1.9, 2.2, 2.9, 3.1, -2.1, -1.5, 2.1],
    }
    lens = early(layers, normed=False)
    found = DoLa(layers=(1, 2, 3)).scores(logits, lens, 0)
    assert close(found, [[NONE, 11.493795, NONE, 0.193795, -0.406205, NONE, NONE, NONE]])
    paper = DoLa(layers=(1, 2, 3), form="paper").scores(logits, lens, 0)
    third = (logits.log_softmax(-1) - lens.logits(3, False).log_softmax(-1))[found.isfinite()]
    assert close(paper[found.isfinite()], third)
    assert torch.equal(DoLa(layers=(1, 2, 3), norm=True).scores(logits, early(layers, normed=True), 0), found)


def test_dola_reads_the_layers_that_the_library_calls_high() -> None:
    # transformers-community/dola: range(N // 2, N, 2), and range(N - 20, N, 2) above 40 layers
    def read(depth: int) -> list[int]:
        return list(DoLa().layers_read(SimpleNamespace(layers=range(depth))))  # type: ignore[arg-type]

    assert read(32) == list(range(16, 32, 2))
    assert read(26) == list(range(13, 26, 2))
    assert read(60) == list(range(40, 60, 2))


def test_deco_corrects_as_its_code_does() -> None:
    # zjunlp/Deco fee8d75, with at most 5 candidates; it takes layer 2, whose surest candidate has 0.197124
    logits = torch.tensor([[2.3, -0.4, -3.3, 0.9, -1.6, -2.1, 0.6, 1.3]])
    lens = early(
        {
            1: [-1.4, -0.8, -1.2, 0.4, -1.7, 2.2, -2.1, 0.2],
            2: [-1.1, 0.7, -1.8, -3.0, 0.7, 2.9, 1.9, 1.5],
            3: [0.4, 2.5, -2.6, -1.6, 0.0, -1.4, 1.0, -2.6],
        },
        normed=True,
    )
    found = DeCo(first_layer=1, last_layer=3, keep=5).scores(logits, lens, 0)
    assert close(found, [[2.169898, NONE, NONE, 0.545177, NONE, NONE, 0.824721, 1.477412]])


def test_only_silences_the_heads_that_its_code_does() -> None:
    # zifuwan/ONLY 109bffe, modeling_llama.py, of the scores below
    scores = 2 * torch.sin(torch.arange(40.0) * 1.7 + 0.3).view(1, 4, 10)
    index = torch.arange(10)
    image = ((index >= 3) & (index < 7))[None, None]
    found = text_minded(scores.softmax(-1), ~image & (index > 0), image)[0]
    assert close(found[0], [0.072422, 0.247168, 0.013899, 0.00855, 0, 0.129193, 0.006904, 0.01959, 0, 0.049748])
    assert close(found[2], [0.087659, 0.007247, 0.052766, 0, 0.031541, 0.008274, 0.141721, 0, 0.012976, 0.015321])
    assert not found[[1, 3]].any()


def test_only_adds_where_its_code_adds() -> None:
    # zifuwan/ONLY 109bffe, only_sample.py: the first row's distance is 0.138, the second's 0.839
    logits = torch.tensor([[2.0, 1.0, -1.5, 0.5], [2.0, 1.0, -1.5, 0.5]])
    text = torch.tensor([[1.9, 1.2, -1.0, 0.3], [0.5, 1.5, 0.0, 0.2]])
    found = ONLY().combine(logits, text)
    assert close(found, [[7.7, 4.6, NONE, 1.4], [3.5, 0.5, NONE, 0.8]])
