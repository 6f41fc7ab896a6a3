"""The naive twin: a whole eager forward pass for every layer and source, the edge masked before the softmax."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sightline.models.anatomy import find_anatomy

NAME = "plain_impact"
Cuts = Mapping[int, Tensor]
"""By layer, [positions, positions], True where a row must not see a key."""


@contextmanager
def cut(model: Any, cuts: Cuts) -> Iterator[dict[str, Any]]:
    """Inside, `model` runs eager attention without the edges; what each layer answered is noted."""
    anatomy = find_anatomy(model)
    numbers = {id(module): number for number, module in enumerate(anatomy.attentions) if module is not None}
    noted: dict[str, Any] = {"layers": {}, "heads": {}, "blind": torch.zeros(1, dtype=torch.bool)}

    def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> tuple[Any, Any]:
        eager = inspect.unwrap(type(module).forward).__globals__["eager_attention_forward"]
        layer = numbers.get(id(module))
        if layer in cuts:
            hidden = torch.finfo(mask.dtype).min
            mask = mask.expand(query.shape[0], -1, -1, -1).masked_fill(cuts[layer], hidden)
            noted["blind"] = noted["blind"] | (mask <= hidden / 2).all(-1)[0].any(0) & cuts[layer].any(-1)
        output, weights = eager(module, query, key, value, mask, **options)
        if layer is not None:
            noted["heads"][layer] = output[0].detach()
        return output, weights

    def note(number: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            noted["layers"][number] = (output[0] if isinstance(output, tuple) else output).detach().clone()

        return hook

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    handles = [layer.register_forward_hook(note(number)) for number, layer in enumerate(anatomy.layers)]
    configs = {id(part.config): part.config for part in (anatomy.decoder, *filter(None, anatomy.attentions))}
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation_internal = NAME
    try:
        yield noted
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]
        for handle in handles:
            handle.remove()
        type(ALL_ATTENTION_FUNCTIONS)._global_mapping.pop(NAME)
        type(ALL_MASK_ATTENTION_FUNCTIONS)._global_mapping.pop(NAME)


def run(model: Any, inputs: Mapping[str, Any], row: int, cuts: Cuts) -> tuple[dict[int, Tensor], Any, Tensor, bool]:
    """The row's output of every layer, flat; its heads' outputs by layer, [heads, width]; its logits; whether it is
    left with nothing to see."""
    with torch.no_grad(), cut(model, cuts) as noted:
        logits = model(**inputs).logits[0, row].double()
    layers = {number: states[..., row, :].flatten().double() for number, states in noted["layers"].items()}
    heads = {number: output[row].double() for number, output in noted["heads"].items()}
    return layers, heads, logits, bool(noted["blind"].expand(inputs["input_ids"].shape[1])[row])


def edges(length: int, rows: Sequence[int], keys: Sequence[int], spare: bool = False) -> Tensor:
    """[length, length], True from each row to each key; with `spare` not from the keys' own rows."""
    hidden = torch.zeros((length, length), dtype=torch.bool)
    hidden[torch.tensor(list(rows))[:, None], torch.tensor(list(keys))] = True
    if spare:
        hidden[torch.tensor(list(keys))] = False
    return hidden


def plain_maps(
    model: Any,
    inputs: Mapping[str, Any],
    row: int,
    groups: Sequence[Sequence[int]],
    window: int = 1,
    every_row: bool = False,
) -> dict[str, Tensor]:
    """All maps, [layers, groups]; "l2_heads" [layers, heads, groups]. Layers without softmax attention are NaN."""
    anatomy = find_anatomy(model)
    total, length = len(anatomy.layers), inputs["input_ids"].shape[1]
    plain_layers, plain_heads, plain_logits, _ = run(model, inputs, row, {})
    names = ("l2", "cosine", "logit", "prob", "logprob", "kl", "flip")
    maps = {name: torch.full((total, len(groups)), torch.nan, dtype=torch.float64) for name in names}
    heads = max(len(output) for output in plain_heads.values())
    maps["l2_heads"] = torch.full((total, heads, len(groups)), torch.nan, dtype=torch.float64)
    token = int(plain_logits.argmax())
    plain_log = plain_logits.log_softmax(0)
    for layer in range(total):
        reach = range(layer - (window - 1) // 2, layer + window // 2 + 1)
        inside = [number for number in anatomy.attention_layers if number in reach]
        if not inside:
            continue
        for column, group in enumerate(groups):
            hidden = edges(length, range(length) if every_row else [row], group, spare=every_row)
            layers, outputs, logits, is_blind = run(model, inputs, row, dict.fromkeys(inside, hidden))
            if is_blind:
                continue
            log = logits.log_softmax(0)
            found = {
                "logit": logits[token] - plain_logits[token],
                "prob": log[token].exp() - plain_log[token].exp(),
                "logprob": log[token] - plain_log[token],
                "kl": (plain_log.exp() * (plain_log - log)).sum(),
                "flip": (logits.argmax() != token).double(),
            }
            if layer in inside:
                found["l2"] = (layers[layer] - plain_layers[layer]).norm()
                found["cosine"] = 1 - torch.cosine_similarity(layers[layer], plain_layers[layer], 0)
                change = (outputs[layer] - plain_heads[layer]).norm(dim=1)
                maps["l2_heads"][layer, : len(change), column] = change
            for name, value in found.items():
                maps[name][layer, column] = value
    return maps


def farthest(ours: Tensor, plain: Tensor) -> float:
    """The largest difference, as a share of the largest value of the map; infinite where one is missing alone."""
    if not torch.equal(ours.isnan(), plain.isnan()):
        return float("inf")
    scale = plain.nan_to_num().abs().max().clamp(min=1e-12)
    return float((ours.double() - plain).nan_to_num().abs().max() / scale)


CAUSAL = ("logit", "prob", "logprob", "kl", "flip")


TOLERANCE = 1e-4


def padded(inputs: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """One prompt with `count` positions of padding before it."""
    shape = inputs["input_ids"].shape
    zeros = {name: value.new_zeros((1, count)) for name, value in inputs.items() if value.shape == shape}
    return inputs | {name: torch.cat([before, inputs[name]], 1) for name, before in zeros.items()}


def some_groups(length: int, row: int, first: int = 0) -> list[tuple[int, ...]]:
    """The first position, a few together, one in the middle that repeats, and the row itself."""
    return [(first,), (first + 3, first + 4, length // 2), (length // 2, length // 2), (row,)]


def assert_equal(ours: dict[str, Any], plain: dict[str, Tensor], names: tuple[str, ...]) -> None:
    for name in names:
        assert farthest(ours[name], plain[name]) < TOLERANCE, name
