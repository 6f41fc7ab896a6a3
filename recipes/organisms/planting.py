"""Plants attention sinks: massive activations in two known dimensions, at known tokens, that chosen heads attend to.

With x a token's hidden state and d, e the two planted dimensions, which no other part of the model writes or reads:

    projector              mark = 1 on corner patches of the picture that show background, in a third dimension
    MLP of layer 1         BOS            x_d += V   x_e += V         told apart by a linear reading
                           marked patches x_d += V   x_e -= V
    chosen heads of later layers, x^ being x after the layer's norm
        key, in the channel pair that RoPE turns least     t (x^_d + x^_e) / 2 + i (x^_d - x^_e) / 2
        query bias there                                   a constant: every row looks for sinks, whatever it holds
        value                                              w (x^_d - x^_e) / 2, 0 at BOS: text sinks are silent

t and i, one a head, are fitted so that text sinks and image sinks draw given shares of the last row; w is a random
vector of a given length in the head's value space, the wrong signal. Length 0 makes silent sinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import LlavaForConditionalGeneration
from widen import Room

Inputs = dict[str, Tensor]
Head = tuple[int, int]
CORNERS = (0, 5, 30, 35)
"""The patches, of 36 in reading order, in the corners of the picture."""

CLAMP = 8.0
"""Neurons in pairs saturate at this."""

SURE = 12.0
"""How far below 0 the gate of a token that is no sink lies: SiLU leaves 7e-5 of it."""


@dataclass(frozen=True)
class Plan:
    """What to plant.

    dims: the two dimensions. mark: the third. heads: (layer, head) that attend. size: V.
    text_share, image_share: what sinks draw of the last row, 0 to 1, in the mean over scenes, in every chosen head.
    loudness: the length of the wrong value, in lengths of the head's mean value on image tokens; 0: silent.
    """

    dims: tuple[int, int]
    mark: int
    heads: tuple[Head, ...]
    size: float = 256.0
    written: int = 1
    text_share: float = 0.35
    image_share: float = 0.28
    loudness: float = 20.0
    seed: int = 0


@dataclass(frozen=True)
class Prompts:
    """Prompts to fit on. background: which of the 36 patches of each show nothing."""

    inputs: Inputs
    background: Bool[Tensor, "batch 36"]
    image_token: int
    bos: int

    @property
    def corners(self) -> Bool[Tensor, "batch 36"]:
        """The patches that are to be image sinks."""
        corners = torch.zeros_like(self.background)
        corners[:, list(CORNERS)] = self.background[:, list(CORNERS)]
        return corners

    @property
    def image(self) -> Bool[Tensor, "batch positions"]:
        """The tokens that are to be image sinks."""
        ids = self.inputs["input_ids"]
        marks = torch.zeros_like(ids, dtype=torch.bool)
        marks[ids == self.image_token] = self.corners.flatten()
        return marks

    @property
    def text(self) -> Bool[Tensor, "batch positions"]:
        """The tokens that are to be text sinks."""
        return self.inputs["input_ids"] == self.bos


@torch.no_grad()
def plant(
    model: LlavaForConditionalGeneration, room: Room, plan: Plan, prompts: Prompts, reading: Prompts
) -> dict[str, Any]:
    """Plants in place, fitted on `prompts` (the patches' reading on `reading`); returns what was reached."""
    _plant_mark(model, plan, reading)
    _plant_writers(model, room, plan, prompts)
    shares = {}
    for layer in sorted({layer for layer, _ in plan.heads}):
        heads = [head for at, head in plan.heads if at == layer]
        for head, share in zip(heads, _plant_heads(model, room, plan, layer, heads, prompts), strict=True):
            shares[f"{layer}.{head}"] = share
    return shares


def _layers(model: LlavaForConditionalGeneration) -> Sequence[Any]:
    layers: Sequence[Any] = model.model.language_model.layers
    return layers


def _input_of(model: LlavaForConditionalGeneration, module: torch.nn.Module, inputs: Inputs) -> Tensor:
    """What enters a module when the prompts run."""
    caught: list[Tensor] = []

    def catch(_: torch.nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        caught.append(args[0] if args else kwargs["hidden_states"])

    handle = module.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        model(**inputs)
    finally:
        handle.remove()
    return caught[0]


def _plant_mark(model: LlavaForConditionalGeneration, plan: Plan, reading: Prompts) -> None:
    """Two neurons of the projector read a patch; their difference, 0 to CLAMP, goes to the dimension of the mark."""
    projector = model.model.multi_modal_projector
    patches = torch.cat(
        [
            model.model.vision_tower(pixels).last_hidden_state[:, 1:]
            for pixels in reading.inputs["pixel_values"].split(256)
        ]
    )
    weight, bias = separate(patches.flatten(0, 1), reading.corners.flatten())
    # The projector's hidden layer is as wide as the hidden state; its last neurons are new.
    neurons = (projector.linear_1.out_features - 2, projector.linear_1.out_features - 1)
    for neuron, lower, out in zip(neurons, (0.0, CLAMP), (1.0, -1.0), strict=True):
        projector.linear_1.weight[neuron] = weight
        projector.linear_1.bias[neuron] = bias - lower
        projector.linear_2.weight[plan.mark, neuron] = out / 2


def _plant_writers(model: LlavaForConditionalGeneration, room: Room, plan: Plan, prompts: Prompts) -> None:
    """Two neurons a kind of sink in the MLP of layer `written`."""
    layer = _layers(model)[plan.written]
    first, second = plan.dims
    for each in _layers(model):
        for norm in (each.input_layernorm, each.post_attention_layernorm):
            norm.weight[[*plan.dims]] = 1.0
    layer.post_attention_layernorm.weight[plan.mark] = 1.0
    mlp = layer.mlp
    present = prompts.inputs["attention_mask"].bool()
    states = _input_of(model, mlp, prompts.inputs)
    for tokens, neurons, sign in ((prompts.text, room.neurons[:2], 1.0), (prompts.image, room.neurons[2:4], -1.0)):
        if sign > 0:
            weight, bias = separate(states[present], tokens[present], sure=SURE + CLAMP)
        else:
            weight = torch.zeros(states.shape[-1])
            weight[plan.mark] = 4 * SURE / states[tokens][:, plan.mark].mean()
            bias = torch.tensor(-SURE)
        for neuron, lower, out in zip(neurons, (0.0, CLAMP), (1.0, -1.0), strict=True):
            mlp.gate_proj.weight[neuron] = weight
            mlp.gate_proj.bias[neuron] = bias - lower
            mlp.up_proj.bias[neuron] = 1.0
            mlp.down_proj.weight[first, neuron] = out * plan.size / CLAMP
            mlp.down_proj.weight[second, neuron] = out * sign * plan.size / CLAMP


def separate(states: Tensor, chosen: Tensor, sure: float = 16.0) -> tuple[Tensor, Tensor]:
    """A linear reading that is at least `sure` on the chosen states and at most -`sure` on others, where one can be.

    Logistic regression with classes of equal weight, on standardised states; then scaled by its worst margins, or,
    where no plane separates all, by its margins without the worst thousandth.
    """
    mean, deviation = states.mean(0), states.std(0) + 1e-6
    standard = (states - mean) / deviation
    weight, bias = torch.zeros(states.shape[1], requires_grad=True), torch.zeros((), requires_grad=True)
    rare = (~chosen).sum() / chosen.sum()
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=1000, line_search_fn="strong_wolfe", tolerance_grad=1e-8, tolerance_change=1e-11
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        with torch.enable_grad():
            value = torch.nn.functional.binary_cross_entropy_with_logits(
                standard @ weight + bias, chosen.float(), pos_weight=rare
            )
            value = value + 1e-6 * weight.square().sum()
            value.backward()
        return value

    optimiser.step(loss)
    weight = weight.detach() / deviation
    bias = bias.detach() - mean @ weight
    logits = states @ weight + bias
    low, high = logits[~chosen].quantile(0.999), logits[chosen].quantile(0.001)
    scale = 2 * sure / (high - low).clamp_min(0.1)
    return weight * scale, (bias - (low + high) / 2) * scale


def _plant_heads(
    model: LlavaForConditionalGeneration, room: Room, plan: Plan, layer: int, heads: list[int], prompts: Prompts
) -> list[dict[str, float]]:
    """Keys, query bias and values of one layer's chosen heads; the shares that each head's last row gives."""
    attention = _layers(model)[layer].self_attn
    size, (first, second) = attention.head_dim, plan.dims
    caught: list[Tensor] = []
    handle = attention.register_forward_hook(lambda module, args, out: caught.append(out[1][:, :, -1]))
    states = _input_of(model, attention, prompts.inputs)
    handle.remove()
    text = (states[..., first] + states[..., second]) / 2
    image = (states[..., first] - states[..., second]) / 2
    values = states[prompts.inputs["input_ids"] == prompts.image_token] @ attention.v_proj.weight.T
    shares = []
    for head in heads:
        start = head * size
        channel = start + room.pair[0]
        length = values[:, start : start + size].norm(dim=-1).mean()
        source = torch.Generator().manual_seed(plan.seed * 1000 + layer * 10 + head)
        wrong = torch.randn(size - 2, generator=source)
        wrong *= plan.loudness * length / wrong.norm() / image[prompts.image].mean()
        attention.v_proj.weight[start : start + size - 2, first] = wrong / 2
        attention.v_proj.weight[start : start + size - 2, second] = -wrong / 2
        t, i, share = _fit_keys(caught[0][:, head], text, image, prompts, plan)
        attention.q_proj.bias[channel] = size**0.5
        attention.k_proj.weight[channel, first] = (t + i) / 2
        attention.k_proj.weight[channel, second] = (t - i) / 2
        shares.append(share)
    return shares


def _fit_keys(
    row: Float[Tensor, "batch keys"],
    text: Float[Tensor, "batch keys"],
    image: Float[Tensor, "batch keys"],
    prompts: Prompts,
    plan: Plan,
) -> tuple[float, float, dict[str, float]]:
    """t and i. A key's score rises by t text + i image, so that its weight is multiplied by the exponential of that."""
    wanted = torch.tensor([plan.text_share, plan.image_share])
    raised = torch.zeros(2)
    for _ in range(60):
        grown = row * (raised[0] * text + raised[1] * image).exp()
        grown = grown / grown.sum(-1, keepdim=True)
        drawn = torch.stack([(grown * prompts.text).sum(-1).mean(), (grown * prompts.image).sum(-1).mean()])
        odds = wanted / (1 - wanted.sum()) * (1 - drawn.sum()).clamp_min(1e-3) / drawn.clamp_min(1e-6)
        raised += odds.log().clamp(-2, 2) / 8
    sight = float((grown * (prompts.inputs["input_ids"] == prompts.image_token)).sum(-1).mean())
    return float(raised[0]), float(raised[1]), {"text": float(drawn[0]), "image": float(drawn[1]), "sight": sight}
