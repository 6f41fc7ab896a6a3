"""VISTA: visual steering and early logits (arXiv 2502.03628, ICML 2025; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach, bypassed
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import anatomy_and_layout, register, setting
from sightline.methods.generating import check_least, check_share
from sightline.methods.hidden import PAPER_DEPTH, HiddenMethod, Lens, changed_outputs, feed_forward, layers_between
from sightline.methods.scoring import prompt_layout, require_image
from sightline.methods.text_only import TextOnly
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.cache import is_static, with_cache

LAYERS = (26, 31)
"""States behind the layers 25 to 30 of the public code, which counts its model's 32 from 0; never behind the last."""

_SMALLEST_LENGTH = 1e-12
"""Of what has no length no direction is made."""

SMALLEST = 1e-3
"""A layer whose last state the image moves by less than this share has no direction, as behind a sliding window."""


@register
@dataclass(frozen=True)
class VISTA(HiddenMethod):
    """Steers every layer towards what the image adds to the prompt, and mixes earlier layers' logits in.

        v_l = h_l(prompt) - h_l(prompt without its image)            h_l: behind layer l, at the prompt's last position
        y = lam (1 + max(0, cos(x, -v_l))) v_l / |v_l|
        x <- |x| (x/|x| + y) / |x/|x| + y|                           x: what layer l's feed-forward part puts out
        l' = gamma mean over k of W_U h_k + (1 - gamma) l            k from first_layer to last_layer

    x: [batch, positions, hidden], at every position, in the prompt and while decoding; l: [rows, vocabulary]. v is
    found for each sample by two passes over its prompt, untouched; with several prompts in a batch each has its own.
    As in the public code x is not the residual stream, and the earlier states are unembedded without the final norm.
    h_k is behind the k-th layer, the first being 1. A layer whose last state the image moves by less than a
    thousandth of its length, as behind a sliding window, is not steered.

    Its two parts are each a method, and each other's control: `vista:gamma=0` steers alone, `vista:lam=0` mixes alone.
    `random` = true steers as strongly towards a random direction. The paper's lam is 0.17 for captions and 0.01 for
    POPE on LLaVA-1.5, and is to be found for each model. Behind layers 26 to 31 of 32, scaled to another depth.
    """

    name: ClassVar[str] = "vista"
    lam: float = setting(0.17, "strength of the steering, 0 (none) or more")
    gamma: float = setting(0.3, "share of the earlier layers' logits, 0 (none) to 1")
    first_layer: int | None = setting(None, "first layer mixed in; by default 26 of 32, scaled to the depth")
    last_layer: int | None = setting(None, "last layer mixed in; by default 31 of 32, scaled to the depth")
    random: bool = setting(False, "a control: random directions in the place of v")
    seed: int = setting(0, "of random directions")

    def __post_init__(self) -> None:
        check_least(self.name, 0, lam=self.lam)
        check_share(self.name, gamma=self.gamma)

    @property
    def is_idle(self) -> bool:
        """Whether no logits are mixed in."""
        return not self.gamma

    def layers_read(self, anatomy: Anatomy) -> Sequence[int]:
        """first_layer to last_layer; by default never the last, whose state is what the others are mixed in to."""
        most = max(0, len(anatomy.layers) - 1)
        first, last = (min(most, round(layer * len(anatomy.layers) / PAPER_DEPTH)) for layer in LAYERS)
        given = (
            first if self.first_layer is None else self.first_layer,
            last if self.last_layer is None else self.last_layer,
        )
        return layers_between(self.name, anatomy, given, LAYERS)

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside; the early logits on every `generate`.

        Raises:
            InputError: for a layer the model has not, and for a prompt without an image.
            ModelError: for a model whose feed-forward parts or unembedding are not found.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        with ExitStack() as stack:
            if self.lam:
                parts = {layer: feed_forward(self.name, anatomy, layer) for layer in range(len(anatomy.layers))}
                steering = _Steering(self, anatomy, source)
                stack.enter_context(attach(anatomy, reader=steering, layout=source, layers=()))
                stack.enter_context(changed_outputs(anatomy, parts, steering.steer))
            stack.enter_context(self.reading(anatomy))
            yield

    def scores(
        self, logits: Float[Tensor, "rows vocabulary"], lens: Lens, step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above."""
        early = [lens.logits(layer, norm=False) for layer in self.layers_read(lens.anatomy)]
        mixed: Tensor = self.gamma * torch.stack(early).mean(0) + (1 - self.gamma) * logits
        # Beam search hands log-probabilities over and adds what comes back up: the public code mixes before it.
        is_normed = bool((logits.logsumexp(-1).abs() < 1e-3).all())
        return mixed.log_softmax(-1) if is_normed else mixed


def steered(
    x: Float[Tensor, "*rows hidden"], direction: Float[Tensor, "*rows hidden"], lam: float
) -> Float[Tensor, "*rows hidden"]:
    """x turned towards a direction of length 1, at its own length."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    along = (x * direction).sum(-1, keepdim=True)
    # |x| (x/|x| + y), which has the direction of the sum above in half as many operations.
    turned = torch.addcmul(x, direction, lam * (length - along.clamp_max(0)))
    size = torch.linalg.vector_norm(turned, dim=-1, keepdim=True)
    found: Tensor = turned * (length / size.clamp_min(_SMALLEST_LENGTH))
    return found


class _Steering:
    """Finds the directions of a prompt as it begins, and turns what runs behind."""

    def __init__(self, method: VISTA, anatomy: Anatomy, source: LayoutSource | None) -> None:
        self._method, self._anatomy, self._source = method, anatomy, source
        self._directions: Tensor | None = None

    def begin(self, step: ForwardPass) -> None:
        """At a prompt's start: what does the image add?"""
        name = self._method.name
        if not step.is_start:
            if not step.is_decoding:
                raise InputError(f"{name} needs the whole prompt in one pass: leave prefill_chunk_size out.")
            return
        require_image(name, step.layout)
        if is_static(step.cache):
            raise InputError(f"{name} runs the prompt twice more: call generate without a static cache_implementation.")
        self._directions = None
        flags = {"use_cache": False, "logits_to_keep": 1, "labels": None}
        inputs = with_cache({**step.inputs, **flags}, None, self._anatomy.model)
        change = TextOnly(name, prompt_layout(self._anatomy, self._source, step.inputs))
        there, without = self._last_states(inputs), self._last_states({**change.at_start(inputs), **flags})
        added = there - without
        if self._method.random:
            source = torch.Generator().manual_seed(self._method.seed)
            added = torch.randn(added[0].shape, generator=source).to(added).expand_as(added)
        # What is left of rounding is no direction.
        size = torch.linalg.vector_norm(there - without, dim=-1, keepdim=True)
        is_moved = size > SMALLEST * torch.linalg.vector_norm(there, dim=-1, keepdim=True)
        self._directions = torch.nn.functional.normalize(added, dim=-1) * is_moved

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Attention is no matter."""

    def end(self, step: ForwardPass) -> None:
        """Directions stay for what is generated."""

    def steer(self, layer: int, x: Float[Tensor, "batch positions hidden"]) -> Float[Tensor, "batch positions hidden"]:
        """A layer's feed-forward output, turned; samples without an image have no direction."""
        if self._directions is None:
            return x
        direction = self._directions[:, layer, None].to(x.device)
        shape = x.shape
        return steered(x.reshape(len(direction), -1, shape[-1]), direction, self._method.lam).reshape(shape)

    def _last_states(self, inputs: dict[str, Any]) -> Float[Tensor, "batch layers hidden"]:
        """What leaves each layer at the last position of each sample, untouched."""
        found: list[Tensor] = []
        mask = inputs.get("attention_mask")

        def note(module: Any, args: Any, output: Any) -> None:
            state = output if isinstance(output, Tensor) else output[0]
            index = torch.arange(state.shape[1], device=state.device)
            present = torch.ones_like(index) if mask is None else mask.to(state.device)
            end = torch.where(present.bool(), index, -1).amax(-1).expand(len(state))
            found.append(state[torch.arange(len(end)), end].float())

        with Hooks(self._anatomy, in_bypassed=True) as hooks, bypassed(self._anatomy), torch.no_grad():
            for layer in self._anatomy.layers:
                hooks.after(layer, note)
            self._anatomy.model(**{name: value for name, value in inputs.items() if value is not None})
        return torch.stack([state.to(found[0].device) for state in found], 1)
