"""Each pruning rule gives what its public code gave on the same tensors: numbers only, noted once, commits named."""

from __future__ import annotations

import torch

from sightline.methods.cdpruner import greedy_mode
from sightline.methods.divprune import most_diverse
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.fastv import FastV
from sightline.methods.visionzip import VisionZip, merged_into


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uniform(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_fastv_keeps_what_the_public_code_keeps() -> None:
    """pkunlp-icler/FastV, d165972, llava-hf's modeling_llama.py: attention of 2 heads, 8 image tokens from 2 on."""
    image = torch.zeros(12, dtype=torch.bool)
    image[2:10] = True
    weights = uniform(0, 1, 2, 12, 12)
    kept = FastV(R=0.6).keep(weights[0].mean(0)[-1], image)
    assert kept.nonzero()[:, 0].tolist() == [0, 1, 7, 8, 9, 10, 11]


def test_fastervlm_keeps_what_the_public_code_keeps() -> None:
    """Theia-4869/FasterVLM, f5d5f12, llava_arch.py: 4 of 10 patches, 3 heads."""
    assert FasterVLM(r=0.6).pick(uniform(0, 1, 3, 10)[0].mean(0)).nonzero()[:, 0].tolist() == [1, 5, 6, 7]


def test_divprune_chooses_in_the_order_of_the_public_code() -> None:
    """vbdi/divprune, 799e2d9, llava_arch.py: 6 of 12."""
    assert most_diverse(drawn(0, 12, 5), 6).tolist() == [0, 10, 11, 2, 1, 3]


def test_cdpruner_chooses_in_the_order_of_the_public_code() -> None:
    """Theia-4869/CDPruner, 9541616, llava_arch.py: 5 of 9, relevance from drawn embeddings of image and text."""
    r = torch.tensor([0.436452, 0.643594, 0.703551, 1e-6, 0.944736, 0.656998, 1.000001, 0.750515, 0.286667])
    unit = torch.nn.functional.normalize(drawn(1, 9, 6), dim=-1)
    assert greedy_mode(r[:, None] * (unit @ unit.T) * r, 5).tolist() == [6, 7, 2, 4, 5]


def test_visionzip_hands_on_what_the_public_code_hands_on() -> None:
    """dvlab-research/VisionZip, 3151f6d, clip_encoder.py: 4 dominant, the class token among them, and 2 contextual."""
    weights, state, keys = uniform(0, 1, 2, 10, 10)[0], drawn(1, 1, 10, 2)[0], drawn(2, 1, 2, 10, 3)[0]
    zipped = VisionZip(keep=6, merged=2).split(weights[:, 0, 1:].mean(0), has_class=True)
    merged = merged_into(state[1:], keys.mean(0)[1:], zipped)
    public = torch.tensor(
        [[-1.5256, -0.7502], [-0.654, -1.6095], [1.7674, -0.0954], [0.2753, 1.7163], [0.1126, 0.5815], [0.5003, 0.5535]]
    )
    assert torch.allclose(torch.cat([state[:1], state[1:][zipped.dominant], merged]), public, atol=1e-4)
