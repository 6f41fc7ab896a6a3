"""What each head of each layer does to one word: by taking it away, and by one backward pass.

A head's effect is the change of the followed token's log-probability when what the head puts out is zero at every
position, or at the last alone, before the output projection. Exact: one pass a head, several heads at a time. By
gradient: with every head's output multiplied by m = 1, the change is - d log p / d m to first order, all heads in one
forward and backward pass.

TianyunYoung/Hallucination-Attribution (841fc1b) zeroes a head while the token is decoded, so at the last position
alone; its influence is the fall of the token's probability, the opposite sign of the change here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.attention.alone import alone
from sightline.attention.gradients import frozen
from sightline.attention.hooks import BeforeHook, Hooks
from sightline.attention.late_images import LATE
from sightline.errors import InputError, ModelError
from sightline.memory import is_out_of_memory
from sightline.models.anatomy import Anatomy, find_anatomy
from sightline.models.logits import plain_inputs, plain_pass
from sightline.models.weights_digest import weights_digest
from sightline.stats import rank_correlation

AT_ONCE = 16
"""Heads taken away in one pass, each in a row of its own; halved where memory does not suffice."""

Positions = Literal["all", "last"]
"""Where a head puts out nothing."""


@dataclass(frozen=True)
class HeadEffects:
    """What each head does to the followed token.

    Attributes:
        token: id of the followed token.
        log_probability: of it, in the untouched model.
        layers: which layers the rows are.
        exact: change of its log-probability with the head taken away, [layers, heads]; above 0: the head works against
            the token. None where only the gradient was wanted.
        gradient: the estimate of it by one backward pass.
        model, weights: in which they were found; `ADHH` refuses them in another.
    """

    token: int
    log_probability: float
    layers: tuple[int, ...]
    exact: Float[Tensor, "layers heads"] | None
    gradient: Float[Tensor, "layers heads"]
    model: str = ""
    weights: str = ""

    @property
    def named(self) -> dict[str, Any]:
        """A twentieth of all heads, those that the token owes most to: what `ADHH` takes."""
        return {"heads": self.strongest(max(1, self.gradient.numel() // 20))}

    @property
    def agreement(self) -> float | None:
        """Spearman's rank correlation of both over all heads; None without the exact one, or where nothing varies."""
        return None if self.exact is None else rank_correlation(self.exact.numpy(), self.gradient.numpy())

    def strongest(self, count: int) -> tuple[str, ...]:
        """The heads that the token owes most to, as `layer.head`: for an invented object, those that `ADHH` takes."""
        effects = self.gradient if self.exact is None else self.exact
        order = effects.flatten().argsort()[:count].tolist()
        width = effects.shape[1]
        return tuple(f"{self.layers[place // width]}.{place % width}" for place in order)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON document."""
        return {
            "token": self.token,
            "log_probability": self.log_probability,
            "layers": list(self.layers),
            "exact": None if self.exact is None else self.exact.tolist(),
            "gradient": self.gradient.tolist(),
            "agreement": self.agreement,
            "model": self.model,
            "weights": self.weights,
        }


def head_effects(
    model: Any,
    inputs: Mapping[str, Any],
    *,
    target: int | str = "predicted",
    exact: bool = True,
    positions: Positions = "all",
) -> HeadEffects:
    """The effect of every head on the token that follows a prompt.

    Args:
        model: a `VLM`, or a bare Transformers model.
        inputs: of the forward, one sample.
        target: the id of a token, or predicted, the likeliest one.
        exact: also take each head away in a pass of its own; without, the gradient alone.
        positions: where a head puts out nothing: at all of them, or at the last alone, as while a token is decoded.

    Raises:
        InputError: for a batch, a token that is not there, and other positions.
        ModelError: for a model whose attention does not go through the interface.
    """
    anatomy = getattr(model, "anatomy", None) or find_anatomy(model)
    if positions not in get_args(Positions):
        raise InputError(f"positions is {positions}: give {' or '.join(get_args(Positions))}.")
    if int(inputs["input_ids"].shape[0]) != 1:
        raise InputError("head_effects takes one prompt: give inputs of a batch of one.")
    given = plain_inputs(anatomy.model, inputs)
    with torch.no_grad(), alone(anatomy, "head_effects"):
        logits = plain_pass(anatomy.model, inputs).logits[0, -1].float()
    token = int(logits.argmax()) if target == "predicted" else target
    if not isinstance(token, int) or not 0 <= token < len(logits):
        raise InputError(f"There is no token {target} in a vocabulary of {len(logits)}: give an id, or predicted.")
    before = float(logits.log_softmax(-1)[token])
    gradient = by_gradient(anatomy, given, token, positions)
    layers = anatomy.attention_layers
    about = str(getattr(model, "name", "")), weights_digest(anatomy)
    if not exact:
        return HeadEffects(token, before, layers, None, gradient, *about)
    found = by_ablation(anatomy, given, layers, lambda rows: rows.log_softmax(-1)[:, token], positions)
    return HeadEffects(token, before, layers, found - before, gradient, *about)


Change = Callable[[int, Tensor], Tensor]
"""From a layer (its place among those with attention) and [rows, positions, heads, width] to what is used instead."""


@contextmanager
def _changed(anatomy: Anatomy, change: Change) -> Iterator[None]:
    """Inside, what the heads put out is changed, and nothing else acts on the model."""
    modules = [anatomy.attentions[layer] for layer in anatomy.attention_layers]
    places = {id(module): place for place, module in enumerate(modules)}

    def attend(original: Any, implementation: str, module: nn.Module, *tensors: Any, **options: Any) -> Any:
        output, weights = original(module, *tensors, **options)
        return change(places[id(module)], output), weights

    with Hooks(anatomy, in_bypassed=True) as hooks, alone(anatomy, "head_effects"):
        hooks.intercept([module for module in modules if module is not None], attend)
        yield


def by_gradient(
    anatomy: Anatomy, given: Mapping[str, Any], token: int, positions: Positions = "all"
) -> Float[Tensor, "layers heads"]:
    """The first-order estimate for every head, in one forward and backward pass."""
    masks: list[Tensor] = []

    def scale(place: int, output: Tensor) -> Tensor:
        mask = torch.ones(output.shape[2], device=output.device, dtype=output.dtype, requires_grad=True)
        masks.append(mask)
        if positions == "all":
            return output * mask[:, None]
        return torch.cat([output[:, :-1], output[:, -1:] * mask[:, None]], 1)

    with frozen(anatomy), torch.enable_grad(), _changed(anatomy, scale):
        logits = anatomy.model(**given).logits[0, -1].float()
        grads = torch.autograd.grad(logits.log_softmax(-1)[token], masks)
    return -torch.stack([grad.float().cpu() for grad in grads])


def by_ablation(
    anatomy: Anatomy,
    given: Mapping[str, Any],
    layers: Sequence[int],
    read: Callable[[Float[Tensor, "rows vocabulary"]], Tensor],
    positions: Positions = "all",
) -> Tensor:
    """What `read` makes of the last row's logits without each head of these layers: [layers, heads, ...]."""
    places = [anatomy.attention_layers.index(layer) for layer in layers]
    every = [(place, head) for place in places for head in range(anatomy.num_heads)]
    found: list[Tensor] = []
    at_once = AT_ONCE
    while len(found) < len(every):
        chunk = every[len(found) : len(found) + at_once]
        try:
            found += read(_without(anatomy, given, chunk, positions)).cpu()
        except Exception as error:
            if not is_out_of_memory(error) or at_once == 1:
                raise
            at_once //= 2
    effects = torch.stack(found)
    return effects.reshape(len(layers), anatomy.num_heads, *effects.shape[1:])


def _without(
    anatomy: Anatomy, given: Mapping[str, Any], heads: Sequence[tuple[int, int]], positions: Positions
) -> Float[Tensor, "rows vocabulary"]:
    """The last row's logits without each of these heads, one a row."""
    where = slice(None) if positions == "all" else slice(-1, None)

    def silence(place: int, output: Tensor) -> Tensor:
        mine = [(row, head) for row, (layer, head) in enumerate(heads) if layer == place]
        if not mine:
            return output
        output = output.clone()
        for row, head in mine:
            if head >= output.shape[2]:
                raise ModelError(f"Layer {place} of {type(anatomy.model).__name__} has fewer heads than others.")
            output[row, where, head] = 0
        return output

    with Hooks(anatomy, in_bypassed=True) as hooks, torch.no_grad():
        hooks.before(anatomy.decoder, repeating(len(heads)))
        with _changed(anatomy, silence):
            logits: Tensor = anatomy.model(**given).logits[:, -1].float()
    return logits


def repeating(rows: int) -> BeforeHook:
    """At the decoder's entry, where the image's features are in place: the one sample in so many rows."""

    def repeat(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        embeds = kwargs.get("inputs_embeds")
        length = (kwargs["input_ids"] if embeds is None else embeds).shape[1]

        def repeated(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: repeated(part) for name, part in value.items()}
            if not isinstance(value, Tensor):
                return value
            if value.dim() == 3 and value.shape[1:] == (1, length) and value.shape[0] in (3, 4):
                return value.expand(-1, rows, -1)
            if value.dim() >= 2 and value.shape[0] == 1:
                spread = value.expand(rows, *value.shape[1:])
                return spread if value.dim() > 3 else spread.contiguous()  # a mask of squares is large, states are not
            return value

        changed = {name: repeated(value) for name, value in kwargs.items()}
        if embeds is None:  # the pictures are encoded inside, those of each row anew
            pixels = {name: value for name, value in kwargs.items() if "pixel" in name and isinstance(value, Tensor)}
            changed |= {name: value.repeat(rows, *[1] * (value.dim() - 1)) for name, value in pixels.items()}
        for name in ("deepstack_visual_embeds", LATE):
            features = kwargs.get(name)
            if isinstance(features, Mapping):
                changed[name] = {layer: part.repeat(rows, 1) for layer, part in features.items()}
            elif features is not None:
                changed[name] = [part.repeat(rows, 1) for part in features]
        return args, changed

    return repeat
