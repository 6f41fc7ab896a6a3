"""VAR written a second time, plainly: Python loops over samples, heads and rows of the square of eager weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attention.plain import Masks, eager_twin, plain_weights
from families import IMAGE, PADDING, VIDEO, Case
from sightline.attention import AttentionCall, EditedCall, ForwardPass, attach
from sightline.models.anatomy import find_anatomy

GREEDY = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}


def plain_phi(x: Tensor, dims: Sequence[int]) -> float:
    rms = ((x.float() ** 2).mean() + 1e-6) ** 0.5
    return max(float(abs(x[dim].float()) / rms) for dim in dims)


class States:
    """Hidden states entering each layer in each forward pass, kept whole."""

    def __init__(self, model: Any) -> None:
        self.steps: list[dict[int, Tensor]] = []
        layers = find_anatomy(model).layers
        self.handles = [
            layer.register_forward_pre_hook(self._hook(number), with_kwargs=True) for number, layer in enumerate(layers)
        ]

    def _hook(self, number: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if number == 0:
                self.steps.append({})
            self.steps[-1][number] = (args[0] if args else kwargs["hidden_states"]).detach().clone()

        return hook

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


class Outputs:
    """A reader that keeps each call and what comes of it, by step and layer."""

    def __init__(self) -> None:
        self.steps: list[dict[int, tuple[AttentionCall, Tensor, bool]]] = []
        self.seen: list[ForwardPass] = []

    def begin(self, step: ForwardPass) -> None:
        self.steps.append({})
        self.seen.append(step)

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        call = attention.call
        # A static cache writes over its keys.
        kept = replace(call, key=call.key.clone(), value=call.value.clone())
        self.steps[-1][layer] = (kept, attention.output().clone(), bool(attention.edits))

    def end(self, step: ForwardPass) -> None:
        pass


def plain_sinks(hidden: Tensor, modality: Tensor, dims: Sequence[int], tau: float, layer: int) -> Tensor:
    """[batch, positions], bool."""
    found = torch.zeros(modality.shape, dtype=torch.bool)
    for sample, position in (modality != PADDING).nonzero().tolist():
        found[sample, position] = layer >= 2 and plain_phi(hidden[sample, position], dims) > tau
    return found


def plain_var(
    weights: Tensor, visual: Tensor, sinks: Tensor, rows: Tensor, rho: float, summ: float, p: float
) -> tuple[Tensor, int]:
    """The changed weights and how many (head, row) were changed. weights [batch, heads, rows, keys]; visual, sinks
    [batch, keys]; rows [batch, rows], bool."""
    changed, count = weights.clone(), 0
    for b in range(weights.shape[0]):
        if not bool((visual[b] & sinks[b]).any()):
            continue
        for h in range(weights.shape[1]):
            for i in rows[b].nonzero()[:, 0].tolist():
                row = weights[b, h, i]
                total = float(row[visual[b]].sum())
                if total == 0 or float(row[visual[b] & sinks[b]].sum()) / total > rho or total < summ:
                    continue
                receivers = visual[b] & ~sinks[b]
                budget = (1 - p) * row[sinks[b]].sum()
                if float(row[receivers].sum()) == 0:
                    continue
                changed[b, h, i, sinks[b]] = p * row[sinks[b]]
                changed[b, h, i, receivers] = row[receivers] + budget * row[receivers] / row[receivers].sum()
                count += 1
    return changed, count


def masks_of(model: Any, run: Callable[[Any], Any]) -> list[dict[int, Any]]:
    """The masks that the model's eager twin is given, by step and layer, when `run` runs it."""
    twin, masks = eager_twin(model), Masks()
    with torch.no_grad(), attach(find_anatomy(twin), reader=masks):
        run(twin)
    return masks.steps


def compare_with_plain(
    model: Any,
    case: Case,
    run: Callable[[Any], Any],
    method: Any,
    masks: list[dict[int, Any]] | None = None,
    copies: int = 1,
) -> tuple[float, int]:
    """Runs the model under VAR, and VAR anew from each call's queries, keys and values.

    Returns the worst difference of an attention output, and how many (head, row) were redistributed.
    """
    # The twin first: a copy made while hooks stand would carry them.
    masks = masks_of(model, run) if masks is None else masks
    states, reader = States(model), Outputs()
    try:
        with torch.no_grad(), method.on(model), attach(find_anatomy(model), reader=reader):
            run(model)
    finally:
        states.close()
    modality = torch.tensor(case.modality).repeat_interleave(copies, 0)
    length, last = modality.shape[1], len(find_anatomy(model).layers) - 1
    image = (modality == IMAGE) | (modality == VIDEO)
    worst, count = 0.0, 0
    marks: dict[int, Tensor] = {}
    for number, (step, calls) in enumerate(zip(reader.seen, reader.steps, strict=True)):
        for layer, (call, output, is_edited) in calls.items():
            if number == 0:
                marks[layer] = plain_sinks(states.steps[0][layer], modality, method.dims, method.tau, layer)
            weights = plain_weights(call, masks[number][layer])
            end = step.offset + call.queries
            positions = torch.arange(step.offset, end)
            after = positions[None] > torch.where(image, torch.arange(length), -1).amax(1)[:, None]
            real = torch.nn.functional.pad(modality, (0, max(0, end - length)), value=1)[:, step.offset : end]
            rows = after & image.any(1, keepdim=True) & (real != PADDING)
            pad = max(0, end - length)
            start = end - weights.shape[-1] if weights.shape[-1] <= end else 0
            visual = torch.nn.functional.pad(image, (0, pad))[:, start:end]
            sinks = torch.nn.functional.pad(marks[layer], (0, pad))[:, start:end]
            weights = weights[..., : end - start]
            is_meant = layer >= 2 and not (method.skip_last and layer == last)
            if is_meant:
                has_sink = (image & marks[layer]).any(1)
                assert is_edited == (bool(has_sink.any()) and bool(after.any()))
                used = sinks & has_sink[:, None]
                weights, redistributed = plain_var(weights, visual, used, rows, method.rho, method.summ, method.p)
                count += redistributed
            else:
                assert not is_edited
            value = call.value[:, :, : weights.shape[-1]].repeat_interleave(call.group_size, 1)
            expected = torch.einsum("bhqk,bhkd->bqhd", weights, value)
            worst = max(worst, float((output - expected)[real != PADDING].abs().max()))
    return worst, count


MILD: dict[str, Any] = {"dims": (3, 11), "tau": 1.3, "rho": 0.6, "summ": 0.1, "p": 0.4}
"""In a random model of 32 dimensions about a third of all tokens are above this tau."""


def generate(model: Any, case: Case, **options: Any) -> torch.Tensor:
    return model.generate(**case.inputs, **GREEDY | options)
