"""PyramidDrop and SparseVLM are their public code, in plain loops: ranking, recycling, positions, decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, IMAGE
from methods.plain_decoding import GREEDY, RECORD
from sightline.methods.base import Method
from sightline.methods.pyramiddrop import PyramidDrop
from sightline.methods.sparsevlm import SparseVLM, recycled
from sightline.models.anatomy import find_anatomy

FIRST, SECOND = 1, 2


class Plain:
    """A LLaVA's decoder layer by layer, on one prompt whose image stands in one piece."""

    def __init__(self) -> None:
        family = BY_NAME["llava"]
        self.case, self.model = family.make_inputs(1, None), family.model()
        self.decoder: Any = find_anatomy(self.model).decoder
        kinds = self.case.modality[0]
        self.start, self.image, self.length = kinds.index(IMAGE), kinds.count(IMAGE), len(kinds)
        found: list[Tensor] = []
        handle = self.decoder.register_forward_pre_hook(
            lambda module, args, given: found.append(given["inputs_embeds"]), with_kwargs=True
        )
        with torch.no_grad():
            self.model(**self.case.inputs)
        handle.remove()
        self.prompt = found[0]

    def layer(self, number: int, x: Tensor) -> Tensor:
        """One layer on positions counted from 0."""
        turned = self.decoder.rotary_emb(x, torch.arange(x.shape[1])[None])
        output = self.decoder.layers[number](x, attention_mask=None, position_embeddings=turned)
        return output if isinstance(output, Tensor) else output[0]

    def weights(self, number: int, x: Tensor) -> Tensor:
        """[queries, keys]: a layer's attention on positions counted from 0, heads averaged."""
        own, h = self.decoder.layers[number].self_attn, self.decoder.layers[number].input_layernorm(x)[0]
        q, k = (part(h).unflatten(-1, (-1, own.head_dim)).transpose(0, 1) for part in (own.q_proj, own.k_proj))
        cos, sin = (part[0] for part in self.decoder.rotary_emb(x, torch.arange(x.shape[1])[None]))

        def turn(v: Tensor) -> Tensor:
            a, b = v.chunk(2, -1)
            return v * cos + torch.cat([-b, a], -1) * sin

        k = turn(k).repeat_interleave(len(q) // len(k), 0)
        scores = turn(q) @ k.transpose(-1, -2) / own.head_dim**0.5
        return scores.masked_fill(torch.ones_like(scores[0]).triu(1).bool(), -torch.inf).softmax(-1).mean(0)

    def logits(self, x: Tensor) -> Tensor:
        return self.model.lm_head(self.decoder.norm(x))[:, -1]  # type: ignore[no-any-return]


def parts(x: Tensor, start: int, image: int) -> tuple[Tensor, Tensor, Tensor]:
    return x[:, :start], x[:, start : start + image], x[:, start + image :]


def pyramid(plain: Plain, x: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Cooperx521/PyramidDrop, modeling_llama_pdrop.py, pdrop_forward and pdrop_rank_drop."""
    left, last = plain.image, plain.length
    for number in range(len(plain.decoder.layers)):
        if number in (FIRST, SECOND):
            row = plain.weights(number, x)[last - 1, plain.start : plain.start + left]
            keep = int(plain.image * shares[number - FIRST])
            before, middle, behind = parts(x, plain.start, left)
            x = torch.cat([before, middle[:, row.topk(keep).indices.sort().values], behind], 1)
            left, last = keep, last - left + keep
        x = plain.layer(number, x)
    return plain.logits(x)


def sparse(plain: Plain, x: Tensor, counts: tuple[int, ...], recycle: bool) -> Tensor:
    """Gumpest/SparseVLMs, modelling_sparse_llama.py of version 1.5, and score.py; the layer that ranks runs on all."""
    left, asked = plain.image, plain.length - plain.start - plain.image
    _, v, t = parts(plain.prompt[0][None], plain.start, left)
    liking = (v[0] @ t[0].T).softmax(1).mean(0)
    raters = (liking > liking.mean()).nonzero()[:, 0]
    assert 0 < len(raters) < asked
    for number in range(len(plain.decoder.layers)):
        weights, x = plain.weights(number, x), plain.layer(number, x)
        if number + 1 in (FIRST, SECOND):
            score = weights[raters + plain.start + left, plain.start : plain.start + left].mean(0)
            best = score.topk(min(counts[number + 1 - FIRST], left - 1)).indices
            stays = torch.zeros(left, dtype=torch.bool).index_fill_(0, best, True)
            before, middle, behind = parts(x, plain.start, left)
            back = recycled(middle[0, ~stays], score[~stays])[1] if recycle else middle[0, :0]
            x = torch.cat([before, middle[:, stays], back[None], behind], 1)
            left = int(stays.sum()) + len(back)
    return plain.logits(x)


CASES: dict[str, tuple[Method, Callable[[Plain, Tensor], Tensor]]] = {
    "pyramiddrop": (
        PyramidDrop((FIRST, SECOND), (0.7, 0.4)),
        lambda plain, x: pyramid(plain, x, (0.7, 0.4)),
    ),
    "sparsevlm": (SparseVLM((FIRST, SECOND), (5, 3)), lambda plain, x: sparse(plain, x, (5, 3), True)),
    "sparsevlm, nothing recycled": (
        SparseVLM((FIRST, SECOND), (5, 3), recycle=False),
        lambda plain, x: sparse(plain, x, (5, 3), False),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("has_cache", [True, False])
def test_answers_are_those_of_plain_loops(name: str, has_cache: bool) -> None:
    plain, (method, twin) = Plain(), CASES[name]
    with torch.no_grad():
        with method.on(plain.model):
            output = plain.model.generate(**plain.case.inputs, **GREEDY, **RECORD, use_cache=has_cache)
        tokens = output.sequences[:, plain.length :]
        for step, found in enumerate(output.logits):
            x = torch.cat([plain.prompt, plain.model.get_input_embeddings()(tokens[:, :step])], 1)
            assert torch.allclose(found, twin(plain, x), atol=1e-4), step


@pytest.mark.parametrize("name", CASES)
def test_a_sample_answers_the_same_beside_others_and_under_beams(name: str) -> None:
    family, method = BY_NAME["llava"], CASES[name][0]
    case, model = family.make_inputs(2, "left"), family.model()
    with torch.no_grad(), method.on(model):
        both = model.generate(**case.inputs, **GREEDY, **RECORD)
        beams = model.generate(**case.inputs, **GREEDY, num_beams=2, num_return_sequences=2)
        for sample in range(2):
            real = case.inputs["attention_mask"][sample].bool()
            one = {name: given[sample : sample + 1] for name, given in case.inputs.items()}
            one = {name: given[:, real] if given.dim() == 2 else given for name, given in one.items()}
            alone = model.generate(**one, **GREEDY, **RECORD)
            assert torch.allclose(both.logits[0][sample], alone.logits[0][0], atol=1e-4)
            lone = model.generate(**one, **GREEDY, num_beams=2, num_return_sequences=2)
            length = lone.shape[1] - int(real.sum())
            assert torch.equal(beams[2 * sample : 2 * sample + 2, -length:], lone[:, -length:])


def test_recycling_gives_the_means_of_the_public_code() -> None:
    """Gumpest/SparseVLMs, 26a5f48, utils.py, without its noise: 60 dropped, of which 19 make 2 clusters."""
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    _, means = recycled(x, torch.rand(60, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(means, torch.tensor([[-1.2167, 0.7006], [0.2219, -0.1033]]), atol=1e-4)


def test_stages_keep_what_the_public_code_keeps() -> None:
    """SparseVLMs, 26a5f48, score.py: 5 of 10 image tokens from 4 on, raters 14 and 16; PyramidDrop floors, 6444f30."""
    weights = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(3)).mean(1)[0]
    image = torch.zeros(20, dtype=torch.bool)
    image[4:14] = True
    kept = SparseVLM().keep_share(5, weights[[14, 16]].mean(0), image, 10) & image
    assert (kept.nonzero()[:, 0] - 4).tolist() == [0, 3, 4, 7, 8]
    counts = [
        int((PyramidDrop().keep_share(share, weights[0], image, 10) & image).sum()) for share in (0.5, 0.25, 0.19)
    ]
    assert counts == [5, 2, 1]


@pytest.mark.parametrize("kind", [PyramidDrop, SparseVLM])
def test_the_control_keeps_as_many_tokens_but_random_ones(kind: Any) -> None:
    torch.manual_seed(0)
    scores, image = torch.rand(40), torch.zeros(40, dtype=torch.bool)
    image[4:34] = True
    best = kind().keep_share(0.25, scores, image, 30)
    drawn = [kind(random=True, seed=seed).keep_share(0.25, scores, image, 30) for seed in range(2)]
    assert all(int(each.sum()) == int(best.sum()) and bool(each[~image].all()) for each in drawn)
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], best)
