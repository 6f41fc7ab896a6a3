"""Relevance of every position for one answer: attention rollout, relevancy by gradients, and gradient x attention.

    rollout      r = e^T Ã_L Ã_(L-1) ... Ã_1          Ã = (mean_h A + I) / row sums              arXiv 2005.00928
    relevancy    r = e^T (I + Ā_L) ... (I + Ā_1)      Ā = mean_h max(0, dA * A)                  arXiv 2103.15679
    gradient     r_l = row e of Ā_l, in each layer alone

e: the one-hot row that predicts the next word; A: [heads, rows, keys], attention weights of a layer; dA: the gradient
of the word's logit by them. Both products are of squares, and only the row e of each is wanted: it is carried from the
top down, r <- r Ã_l, in blocks of rows, so that memory grows with the length and not with its square. Nor is the
square of dA ever held: dA_ij = g_i . v_j, with g the gradient by what the head puts out, from one backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sightline.attention import AttentionCall
from sightline.attention.alone import alone
from sightline.attention.gradients import followed_back, frozen
from sightline.attention.hooks import Hooks
from sightline.attention.weights import weight_blocks
from sightline.errors import InputError, ModelError
from sightline.methods.base import anatomy_and_layout
from sightline.methods.scoring import VISUAL, prompt_layout
from sightline.models.logits import plain_pass
from sightline.probes.image_lens import require_grid

Kind = Literal["relevancy", "rollout", "gradient"]

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Relevance:
    """How much each position of a prompt matters to its next word.

    Attributes:
        kind: of `KINDS`.
        token: id of the word followed; rollout does not depend on it.
        values: [layers, positions]: relevancy and rollout of what enters each layer, the first row of the prompt
            itself; gradient of each layer alone.
        image: which positions are the image's.
        grids: of each picture (of one that is cut up, of each crop; of a video, of each frame), the positions of its
            patches, -1 where there is none; none at all where image tokens are a resampler's queries.
    """

    kind: str
    token: int
    values: Float[Tensor, "layers positions"]
    image: Int[Tensor, " tokens"]
    grids: tuple[Int[Tensor, "rows columns"], ...]

    @property
    def of_prompt(self) -> Float[Tensor, " positions"]:
        """Of the prompt's positions: through all layers, or, of the gradient, on average over them."""
        return self.values.mean(0) if self.kind == "gradient" else self.values[0]

    @property
    def image_share(self) -> float:
        """The share of the image in all relevance, the last row's own left out; 0 to 1."""
        given = self.of_prompt[:-1]
        return float(given[self.image].sum() / given.sum().clamp_min(1e-12))

    def map(self, picture: int = 0, layer: int | None = None) -> Float[Tensor, "rows columns"]:
        """Over a picture, of the prompt or of what enters one layer; 0 where no patch is."""
        require_grid(picture, self.grids)
        grid = self.grids[picture]
        values = self.of_prompt if layer is None else self.values[layer]
        return values[grid.clamp(min=0)] * (grid >= 0)


def relevance(
    model: Any, inputs: Mapping[str, Any], kind: Kind = "relevancy", target: int | Literal["predicted"] = "predicted"
) -> Relevance:
    """Which positions of one prompt its next word comes from.

    Args:
        model: a `VLM`, or a bare Transformers model.
        inputs: of the forward, one sample without padding behind its end.
        kind: relevancy and gradient take a forward and a backward pass, rollout a forward pass.
        target: the id of the word followed; by default the likeliest.

    Raises:
        InputError: for a batch, a kind or a token that is not there.
        ModelError: for a model with layers without softmax attention, through which no product goes.
    """
    anatomy, source = anatomy_and_layout(model, None)
    if kind not in KINDS:
        raise InputError(f"There is no relevance called '{kind}'; use {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    layout = prompt_layout(anatomy, source, inputs)
    if layout.batch != 1:
        raise InputError("relevance takes one prompt: give inputs of a batch of one.")
    missing = sorted(set(range(len(anatomy.layers))) - set(anatomy.attention_layers))
    if missing and kind != "gradient":
        raise ModelError(
            f"Layer {missing[0]} of {type(anatomy.model).__name__} has no softmax attention to go through."
        )
    passed = _Passed()
    with (
        frozen(anatomy),
        Hooks(anatomy, in_bypassed=True) as hooks,
        alone(anatomy, "relevance"),
        torch.set_grad_enabled(True),
    ):
        modules = [anatomy.attentions[layer] for layer in anatomy.attention_layers]
        hooks.intercept([module for module in modules if module is not None], passed.attend)
        with torch.no_grad() if kind == "rollout" else nullcontext():
            logits = plain_pass(anatomy.model, inputs).logits[0, -1]
        token = int(logits.argmax()) if target == "predicted" else target
        if not 0 <= token < len(logits):
            raise InputError(f"There is no token {token} in a vocabulary of {len(logits)}: give an id, or predicted.")
        grads = None if kind == "rollout" else torch.autograd.grad(logits[token].float(), passed.outputs)
    with torch.no_grad():
        values = _from_the_top(passed.calls, grads, kind)
    image = layout.mask(*VISUAL)[0].nonzero()[:, 0]
    return Relevance(kind, token, values.cpu(), image, tuple(grid.positions for grid in layout.grids[0]))


class _Passed:
    """The attention calls of one pass, first layer first, and what they put out."""

    def __init__(self) -> None:
        self.calls: list[AttentionCall] = []
        self.outputs: list[Tensor] = []

    def attend(
        self,
        original: Any,
        implementation: str,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Notes a call."""
        output, weights = original(module, query, key, value, mask, **options)
        call = AttentionCall(module, query, key, value, mask, implementation, original, options)
        self.calls.append(replace(call, query=query.detach(), key=key.detach(), value=value.detach()))
        if torch.is_grad_enabled():
            output = followed_back(output)
            self.outputs.append(output)
        return output, weights


def _from_the_top(
    calls: list[AttentionCall], grads: tuple[Tensor, ...] | None, kind: str
) -> Float[Tensor, "layers positions"]:
    """r at the entry of each layer; of the gradient each layer's own row."""
    length = calls[-1].queries
    start = torch.zeros(length, device=calls[-1].query.device)
    start[-1] = 1.0
    r, found = start, []
    for place in reversed(range(len(calls))):
        grad = None if grads is None else grads[place]
        below = through(calls[place], (start if kind == "gradient" else r).to(calls[place].query.device), grad)
        if kind == "rollout":
            r = below
        elif kind == "relevancy":
            r = r.to(below.device) + below
        found.append((below if kind == "gradient" else r).cpu())
    return torch.stack(found[::-1])


def through(
    call: AttentionCall, r: Float[Tensor, " positions"], grad: Float[Tensor, "1 positions heads width"] | None
) -> Float[Tensor, " positions"]:
    """r Ā with the gradient by the heads' outputs, r Ã without."""
    rows = r.nonzero()[:, 0]
    found = torch.zeros_like(r)
    if grad is None:
        share = r / (1 + _row_sums(call, rows, len(r)))
        found += share
    for block in weight_blocks(call, rows):
        heads = slice(block.head, block.head + block.values.shape[1])
        weights = block.values[0]
        if grad is None:
            carried = share[block.rows]
        else:
            value = call.value[0, block.head // call.group_size :][: weights.shape[0] // call.group_size, : call.keys]
            value = value.float().repeat_interleave(call.group_size, 0)
            slope = torch.einsum("rhd,hkd->hrk", grad[0, block.rows, heads].float(), value)
            weights, carried = (weights * slope).clamp_min(0), r[block.rows]
        found[: call.keys] += torch.einsum("r,hrk->k", carried, weights) / call.heads
    return found


def _row_sums(call: AttentionCall, rows: Int[Tensor, " rows"], length: int) -> Float[Tensor, " positions"]:
    """Sums of the weights of these rows, mean over heads: 1, but for models with learned sinks, which take a part."""
    sums = torch.ones(length, device=call.query.device)
    if isinstance(call.options.get("s_aux"), Tensor):
        sums[rows] = 0
        for block in weight_blocks(call, rows):
            sums[block.rows] += block.values[0].sum(-1).sum(0) / call.heads
    return sums
