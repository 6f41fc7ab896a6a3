"""Activation patching with a minimal pair (arXiv 2406.16320): where is the difference between two prompts held?

The pair differs in one thing, as the picture or a word, and is answered differently: y for the one, y' for the other.

    m = logit(y) - logit(y')
    effect recovered at (layer l, positions P) = (m_patched - m_other) / (m_one - m_other)

m_patched: the other prompt runs, and what a module of layer l puts out at P is what it put out in the one: 1 where that
brings the whole answer back, 0 where it does nothing. The gradient's estimate of all layers and positions takes two
passes, the one forwards and the other forwards and backwards:

    m_patched - m_other ~ sum over P of (h_one - h_other) . dm/dh_other
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.attention.alone import alone
from sightline.attention.gradients import followed_back, frozen
from sightline.attention.hooks import AfterHook, Hooks
from sightline.errors import InputError, ModelError
from sightline.knockout.heads import AT_ONCE, repeating
from sightline.knockout.logits import followed, row_logits
from sightline.knockout.source import Source
from sightline.knockout.study_rules import PARTS, Part
from sightline.knockout.vision import AnswerEffects, in_batches
from sightline.methods.hidden import feed_forward
from sightline.models.anatomy import Anatomy
from sightline.models.logits import plain_pass

LEAST = 1e-3
"""A difference of m below it, in logits, is none that could be recovered."""


@dataclass(frozen=True)
class Pair:
    """Two prompts of one length, and what they are answered with.

    Attributes:
        one, other: of the forward; states are taken from the one and put into the other.
        word, against: ids of y and y'.
        start, span: m of the other, and how far that of the one lies above it, in logits.
        log_probability: of y in the one.
    """

    one: Mapping[str, Any]
    other: Mapping[str, Any]
    word: int
    against: int
    start: float
    span: float
    log_probability: float

    def margin(self, logits: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, " rows"]:
        """m."""
        return logits[:, self.word] - logits[:, self.against]


def pair_of(anatomy: Anatomy, one: Mapping[str, Any], other: Mapping[str, Any], target: str | int) -> Pair:
    """The pair, after a pass of each. target: y, "predicted" or its id.

    Raises:
        InputError: for prompts of different lengths or kinds of tokens, and for a pair that is answered alike.
    """
    ours, theirs = (int(inputs["input_ids"].shape[1]) for inputs in (one, other))
    if ours != theirs:
        raise InputError(
            f"The pair has {ours} and {theirs} tokens, so positions have no partners: give a picture of the same size, "
            "or words of as many tokens."
        )
    shape = {name: tuple(value.shape) for name, value in one.items() if isinstance(value, Tensor)}
    if shape != {name: tuple(value.shape) for name, value in other.items() if isinstance(value, Tensor)}:
        raise InputError("The pair's pictures are cut into different patches: give a picture of the same size.")
    with alone(anatomy, "patching"):
        logits = torch.cat([row_logits(anatomy, inputs) for inputs in (one, other)]).double()
    follow = followed(target)
    if follow is not None and not 0 <= follow < logits.shape[1]:
        raise InputError(f"There is no token {follow} in a vocabulary of {logits.shape[1]}.")
    word, against = int(logits[0].argmax()) if follow is None else follow, int(logits[1].argmax())
    margins = (logits[:, word] - logits[:, against]).tolist()
    if word == against or abs(margins[0] - margins[1]) < LEAST:
        raise InputError(
            "Both prompts of the pair are answered alike, so there is no effect to recover: give a picture or a word "
            "that changes the answer."
        )
    log = float(logits[0].log_softmax(0)[word])
    return Pair(one, other, word, against, margins[1], margins[0] - margins[1], log)


def patch_answers(
    anatomy: Anatomy, pair: Pair, sources: Sequence[Source], layers: Sequence[int] | None, part: Part
) -> AnswerEffects:
    """`patch_effects` of sources, as a map."""
    chosen = tuple(range(len(anatomy.layers))) if layers is None else tuple(layers)
    maps = patch_effects(anatomy, pair, [source.positions for source in sources], chosen, part)
    baseline = {
        "token": pair.word,
        "against": pair.against,
        "logprob": pair.log_probability,
        "prob": math.exp(pair.log_probability),
        "margins": [pair.start + pair.span, pair.start],
    }
    return AnswerEffects(tuple(sources), maps, baseline, chosen)


def patch_effects(
    anatomy: Anatomy, pair: Pair, groups: Sequence[Sequence[int]], layers: Sequence[int], part: Part = "layer"
) -> dict[str, Float[Tensor, "layers groups"]]:
    """The effect recovered by each group of positions in each layer: "recovered", exact, and "recovered_gradient".

    Cost: the exact one a pass a layer and group, 16 at a time; the estimate two passes in all.

    Raises:
        InputError: for a part or layer that is not there.
        ModelError: for a layer without that part.
    """
    modules = [_module(anatomy, layer, part) for layer in layers]
    states = _states(anatomy, modules, pair.one)
    variants = [(place, group) for place in range(len(layers)) for group in groups]

    def run(chunk: slice) -> Tensor:
        mine = variants[chunk]
        with Hooks(anatomy, in_bypassed=True) as hooks, alone(anatomy, "patching"):
            hooks.before(anatomy.decoder, repeating(len(mine)))
            for place in sorted({place for place, _ in mine}):
                rows = [(row, list(group)) for row, (at, group) in enumerate(mine) if at == place]
                hooks.after(modules[place], _restoring(rows, states[place]))
            return pair.margin(row_logits(anatomy, pair.other).double())

    exact = in_batches(len(variants), AT_ONCE, run).reshape(len(layers), len(groups))
    slopes, others = _slopes(anatomy, modules, pair)
    moved = torch.stack([((a - b) * g).sum(-1) for a, b, g in zip(states, others, slopes, strict=True)])
    estimate = torch.stack([moved[:, list(group)].sum(1) for group in groups], 1)
    return {
        "recovered": (exact - pair.start) / pair.span,
        "recovered_gradient": estimate.double() / pair.span,
    }


def _module(anatomy: Anatomy, layer: int, part: str) -> nn.Module:
    if part not in PARTS:
        raise InputError(f"There is no part called '{part}'; use {', '.join(PARTS[:-1])} or {PARTS[-1]}.")
    if not 0 <= layer < len(anatomy.layers):
        raise InputError(f"Layer {layer} is out of range: the model has layers 0 to {len(anatomy.layers) - 1}.")
    if part == "layer":
        return anatomy.layers[layer]
    found = anatomy.attentions[layer] if part == "attention" else feed_forward("patch", anatomy, layer)
    if found is None:
        raise ModelError(f"Layer {layer} of {type(anatomy.model).__name__} has no softmax attention: patch its layer.")
    return found


def _of(output: Any, length: int) -> Float[Tensor, "rows positions hidden"]:
    """What a module puts out; some have all rows' positions in one axis."""
    found: Tensor = output if isinstance(output, Tensor) else output[0]
    return found if found.dim() == 3 else found.reshape(-1, length, found.shape[-1])


def _instead(output: Any, state: Tensor) -> Any:
    if isinstance(output, Tensor):
        return state.reshape(output.shape)
    return (state.reshape(output[0].shape), *output[1:])


def _states(anatomy: Anatomy, modules: Sequence[nn.Module], inputs: Mapping[str, Any]) -> list[Tensor]:
    """What each module puts out, [positions, hidden], float32 on the CPU."""
    found: list[Tensor] = []
    length = int(inputs["input_ids"].shape[1])
    with Hooks(anatomy, in_bypassed=True) as hooks, alone(anatomy, "patching"):
        for module in modules:
            hooks.after(module, lambda _module, _args, output: found.append(_of(output, length)[0].float().cpu()))
        row_logits(anatomy, inputs)
    return found


def _restoring(rows: Sequence[tuple[int, list[int]]], state: Float[Tensor, "positions hidden"]) -> AfterHook:
    def restore(_module: nn.Module, _args: Any, output: Any) -> Any:
        changed = _of(output, len(state)).clone()
        for row, group in rows:
            changed[row, group] = state[group].to(changed)
        return _instead(output, changed)

    return restore


def _slopes(anatomy: Anatomy, modules: Sequence[nn.Module], pair: Pair) -> tuple[list[Tensor], list[Tensor]]:
    """dm/dh and h of the other prompt, [positions, hidden] each."""
    noted: list[Tensor] = []
    length = int(pair.other["input_ids"].shape[1])

    def note(_module: nn.Module, _args: Any, output: Any) -> Any:
        state = followed_back(_of(output, length))
        noted.append(state)
        return _instead(output, state)

    with frozen(anatomy), Hooks(anatomy, in_bypassed=True) as hooks, alone(anatomy, "patching"), torch.enable_grad():
        for module in modules:
            hooks.after(module, note)
        logits = plain_pass(anatomy.model, pair.other).logits[:, -1].float()
        slopes = torch.autograd.grad(pair.margin(logits)[0], noted)
    return [slope[0].float().cpu() for slope in slopes], [state[0].detach().float().cpu() for state in noted]
