"""Head and attention methods on one small square, against what their public code gave on it: numbers alone.

Each repository was run at the commit named, its functions or the lines of its patched model, in float32 on scores of 4
heads and 8 positions with the image at 2, 3 and 4.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.attention import AttentionCall, row_mass, row_weights
from sightline.attention.sink_tracker import phi
from sightline.methods.adaptvis import AdaptVis
from sightline.methods.adhh import ADHH
from sightline.methods.attention_edit import AttentionEdit, Keys
from sightline.methods.eah import EAH
from sightline.methods.pai import PAI
from sightline.methods.spin import SPIN
from sightline.methods.vaf import VAF
from sightline.methods.var import VAR, Redistribution
from sightline.probes.dominance.masses import attention_efficiency, modality_dominance
from sightline.probes.relevance import through

HEADS, LENGTH = 4, 8
HEAD, ROW, KEY = torch.arange(HEADS)[:, None, None] + 1.0, torch.arange(LENGTH)[:, None] + 2.0, torch.arange(8.0)
SCORES = 2 * torch.sin(0.9 * HEAD * ROW + 1.3 * KEY)
SEES = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
IMAGE = torch.tensor([False, False, True, True, True, False, False, False])
BEHIND, SYSTEM = KEY > 4, KEY < 2
LAST = torch.tensor([LENGTH - 1])


def call_of(scores: Tensor) -> AttentionCall:
    """A call whose scores are these, [heads, positions, positions], and whose values name their position."""
    size = scores.shape[-1]
    every = torch.eye(size).expand(1, len(scores), size, size)
    mask = SEES[:size, :size][None, None]
    return AttentionCall(
        nn.Module(), scores[None], every, every, mask, "eager", lambda *_: (_[1], None), {"scaling": 1}
    )


def edited(method: AttentionEdit, rows: Tensor = LAST, known: Any = None) -> Tensor:
    """[heads, rows, keys]: the weights that the method makes of these rows."""
    call, layer = call_of(SCORES), 16
    parts = (each[None, None, None] for each in (IMAGE, ~IMAGE, SYSTEM, BEHIND))
    keys = Keys(*parts, torch.isin(torch.arange(LENGTH), rows)[None], layer, known=known)
    keys = keys.having(shared=method.at_pass(keys))
    keys = keys.having(seen=method.at_call(call, rows, keys), rows=torch.arange(len(rows)))
    if method.stage == "weights":
        return method.edit(row_weights(call, rows), keys)[0]
    scores = method.edit(SCORES[None, :, rows], keys)
    return scores.masked_fill(~SEES[rows], -torch.inf).softmax(-1)[0]


PUBLIC: dict[str, tuple[AttentionEdit, Any, list[list[float]]]] = {
    "LALBJ/PAI 9bbd8bd": (
        PAI(alpha=0.2, gamma=1),
        None,
        [
            [0.340345, 0.051405, 0.010586, 0.020732, 0.243994, 0.292880, 0.033397, 0.006662],
            [0.023069, 0.008432, 0.054821, 0.578963, 0.226083, 0.016142, 0.009701, 0.082789],
            [0.009209, 0.099544, 0.425622, 0.048325, 0.008972, 0.012734, 0.143112, 0.252482],
            [0.246618, 0.211616, 0.023506, 0.009639, 0.039805, 0.300980, 0.154138, 0.013697],
        ],
    ),
    "ustc-hyin/ClearSight 5466c94": (
        VAF(),
        None,
        [
            [0.328269, 0.054495, 0.005759, 0.015134, 0.242512, 0.311259, 0.035493, 0.007080],
            [0.025855, 0.009938, 0.056608, 0.562883, 0.228587, 0.017256, 0.010370, 0.088504],
            [0.010417, 0.099971, 0.405369, 0.050393, 0.004878, 0.013378, 0.150348, 0.265247],
            [0.238522, 0.206241, 0.018309, 0.005084, 0.039042, 0.316379, 0.162024, 0.014398],
        ],
    ),
    "shiqichen17/AdaptVis 3b41399": (
        AdaptVis(),
        torch.tensor(1.5),
        [
            [0.308878, 0.046652, 0.002517, 0.008877, 0.330919, 0.265801, 0.030309, 0.006046],
            [0.015074, 0.005510, 0.033422, 0.668615, 0.206394, 0.010548, 0.006339, 0.054098],
            [0.006889, 0.074473, 0.573551, 0.037802, 0.001798, 0.009527, 0.107068, 0.188892],
            [0.252414, 0.216589, 0.013211, 0.002483, 0.035470, 0.308053, 0.157761, 0.014019],
        ],
    ),
    "TianyunYoung/Hallucination-Attribution 841fc1b": (
        ADHH(heads=("16.0", "16.1", "16.3")),
        None,
        [
            [0.363888, 0.054961, 0.007720, 0.017884, 0.199578, 0.313140, 0.035707, 0.007123],
            [0.029927, 0.010939, 0.069723, 0.513806, 0.234682, 0.020940, 0.012584, 0.107400],
            [0.010737, 0.116065, 0.335224, 0.054697, 0.007179, 0.014848, 0.166864, 0.294386],
            [0.248703, 0.213405, 0.019973, 0.006554, 0.038584, 0.0, 0.0, 0.0],
        ],
    ),
}


@pytest.mark.parametrize("source", PUBLIC)
def test_the_last_row_is_that_of_the_public_code(source: str) -> None:
    method, known, expected = PUBLIC[source]
    assert torch.allclose(edited(method, known=known)[:, 0], torch.tensor(expected), atol=2e-6)


def test_adaptvis_flattens_an_unsure_model_as_its_public_code() -> None:
    expected = torch.tensor([0.392262, 0.059246, 0.021661, 0.032969, 0.110136, 0.337556, 0.038491, 0.007678])
    assert torch.allclose(edited(AdaptVis(), known=torch.tensor(0.5))[0, 0], expected, atol=2e-6)


@pytest.mark.parametrize(
    ("r", "alpha", "factors"), [(0.5, 0.1, (0.1, 1, 1, 0.1)), (0.8, 0.1, (1, 1, 1, 0.1)), (0.95, 0.0, (1, 1, 1, 0))]
)
def test_spin_keeps_the_heads_of_its_public_code(r: float, alpha: float, factors: tuple[float, ...]) -> None:
    """YUECHE77/SPIN at a6ddf4a: `mask`; its sums of scores are -1.647278, 2.913809, 0.227997, -3.024858."""
    plain = row_weights(call_of(SCORES), LAST)[0]
    assert torch.allclose(edited(SPIN(r=r, alpha=alpha)), plain * torch.tensor(factors)[:, None, None])


@pytest.mark.parametrize(("threshold", "counts"), [(0.05, (2, 3, 3, 3)), (0.12, (1, 3, 3, 2)), (0.2, (1, 1, 1, 0))])
def test_eah_counts_image_tokens_as_its_public_code(threshold: float, counts: tuple[int, ...]) -> None:
    """itsqyh/Shallow-Focus-Deep-Fixes at 092c454, at the one length where its fixed number of rows is the true one."""
    method, rows = EAH(threshold=threshold), torch.arange(LENGTH)
    keys = Keys(*[IMAGE[None, None, None]] * 4, torch.ones(1, LENGTH, dtype=torch.bool), 1)
    assert method.image_tokens(call_of(SCORES), rows, keys)[0].tolist() == list(counts)
    if counts[0] < max(counts):  # the public code leaves the model alone where the best head is head 0
        weights = row_weights(call_of(SCORES), rows)[0]
        assert torch.equal(edited(method, rows), weights[1].expand(HEADS, -1, -1))


def test_var_redistributes_as_its_public_code() -> None:
    """seilk/VisAttnSink at 98e62d6: `DimProspector`, `HeadFork`, `VARProcessor`, on the prompt and while decoding."""
    place = torch.arange(8.0)[:, None]
    sinks = phi(torch.sin(1.1 * place**2 + 0.8 * torch.arange(16) * (place + 1)), (1, 3)) > 1.2
    assert sinks.nonzero()[:, 0].tolist() == [4, 5, 6]
    method: Any = Redistribution(VAR(dims=(1, 3)), None, None, frozenset())  # type: ignore[arg-type]
    described = method.describe(3, None, IMAGE[None], sinks[None])
    before = row_weights(call_of(SCORES), torch.arange(LENGTH))
    after = method.changed(before, described, wanted=(torch.arange(8) > 4)[None, None])[0]
    expected = before[0].clone()
    expected[0, 5] = torch.tensor([0.081452, 0.545785, 0.265439, 0.024037, 0.008204, 0.075082, 0, 0])
    expected[1, 5] = torch.tensor([0.083817, 0.547525, 0.259540, 0.023631, 0.008299, 0.077187, 0, 0])
    expected[2, 5] = torch.tensor([0.086243, 0.548930, 0.253840, 0.023253, 0.008399, 0.079335, 0, 0])
    expected[3, 5] = torch.tensor([0.088732, 0.549999, 0.248338, 0.022904, 0.008503, 0.081525, 0, 0])
    expected[3, 6] = torch.tensor([0.031608, 0.012448, 0.097732, 0.687065, 0.149055, 0.013382, 0.008711, 0])
    expected[1, 7] = torch.tensor([0.029927, 0.010939, 0.082541, 0.608270, 0.140809, 0.012564, 0.007550, 0.107400])
    expected[2, 7] = torch.tensor([0.010737, 0.116065, 0.400181, 0.065296, 0.004308, 0.008909, 0.100118, 0.294386])
    assert torch.allclose(after, expected, atol=2e-6)
    assert torch.allclose(method.changed(before[:, :, -1:], described)[0, :, 0], expected[:, -1], atol=2e-6)


def test_text_dominance_is_that_of_a_public_reading_of_the_paper() -> None:
    """Song-haJo/LangOverrule at f23f816, `MDI` and `AEI`; the authors of arXiv 2508.10552 have published no code."""
    text = torch.tensor([True, True, False, False, False, True, False, False])
    masses = row_mass(call_of(SCORES), torch.tensor([6, 7]), torch.stack([text, IMAGE], -1)[None].float()).mean(
        (0, 1, 2)
    )
    assert modality_dominance(float(masses[0]), 3, float(masses[1]), 3) == pytest.approx(1.03145019, rel=1e-6)
    assert attention_efficiency(float(masses[0]), 3, float(masses[1]), 3) == pytest.approx(1.01548164, rel=1e-6)


def test_rollout_and_relevancy_are_those_of_their_public_code() -> None:
    """`compute_joint_attention` of samiraabnar/attention_flow at 8044f53; `avg_heads` and `apply_self_attention_rules`
    of hila-chefer/Transformer-MM-Explainability at 58eaea8: last rows of three layers of 4 heads and 4 positions."""
    layers = range(1, 4)
    calls = [call_of(torch.sin(0.9 * layer * HEAD * ROW + 1.3 * KEY)[:, :4, :4]) for layer in layers]
    slopes = [torch.cos(1.1 * layer * HEAD * ROW - 0.4 * KEY)[:, :4, :4].transpose(0, 1)[None] for layer in layers]
    rollout = relevancy = torch.eye(4)[3]
    for call, slope in zip(calls[::-1], slopes[::-1], strict=True):
        rollout = through(call, rollout, None)
        relevancy = relevancy + through(call, relevancy, slope)
    assert rollout.tolist() == pytest.approx([0.427696, 0.170449, 0.141940, 0.259915], abs=2e-6)
    assert relevancy.tolist() == pytest.approx([0.174344, 0.147487, 0.120892, 1.102896], abs=2e-6)
    row = through(calls[2], torch.eye(4)[3], slopes[2])
    assert row.tolist() == pytest.approx([0.066258, 0.031564, 0.014854, 0.030992], abs=2e-6)
