"""ProjectAway: takes a word out of the image's hidden states (arXiv 2410.02762, ICLR 2025; confirmed in its code)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach, bypassed
from sightline.attention.hooks import Hooks
from sightline.attention.inner import find_inner
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.generating import check_least
from sightline.methods.hidden import changed_outputs, check_depth
from sightline.methods.scoring import VISUAL, require_image
from sightline.models.anatomy import Anatomy
from sightline.models.word_tokens import require_tokens, word_list, word_tokens


@register
@dataclass(frozen=True)
class ProjectAway(Method):
    """Takes from the hidden states of image tokens what points to a word, as one that is not in the picture.

        t = h_text_layer(word)/|h|                  the last token of the word, run as text alone
        h_j <- h_j - weight max(0, h_j . t) t       j image; behind layer `layer`, on the prompt

    h: [positions, hidden], behind a layer, the first being 1 (the public code's edits count from 0). Several words
    are taken out one after the other. Which words: those whose confidence in the picture, read by the unembedding, is
    low. weight = 0 changes nothing. Control: `random` = true, as many random
    directions in the place of t.
    """

    name: ClassVar[str] = "projectaway"
    words: tuple[str, ...] | None = setting(None, "the words, as dog+cat; needs a VLM")
    tokens: tuple[int, ...] | None = setting(None, "or the id of one token each, for a bare model")
    weight: float = setting(1.0, "how much of the projection is taken, 0 (none) or more")
    layer: int | None = setting(None, "behind which layer; by default half of the depth")
    text_layer: int | None = setting(None, "the layer whose states stand for the words; by default the same")
    random: bool = setting(False, "a control: random directions in the place of the words'")
    seed: int = setting(0, "of random directions")

    def __post_init__(self) -> None:
        if self.words is not None:
            object.__setattr__(self, "words", word_list(self.words))
        check_least(self.name, 0, weight=self.weight)

    def require_complete(self) -> None:
        """InputError without a word."""
        if not self.words and not self.tokens:
            raise InputError("projectaway needs the words to take out: give the field words, as dog+cat.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside.

        Raises:
            InputError: without words, for one that the tokenizer does not know, for a layer the model has not, and for
                a prompt without an image.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        self.require_complete()
        layer = len(anatomy.layers) // 2 if self.layer is None else self.layer
        text_layer = layer if self.text_layer is None else self.text_layer
        check_depth(self.name, anatomy, (layer, text_layer))
        if not layer or not text_layer:
            raise InputError("Layer 0 in projectaway is the embedding: give a layer from 1 on.")
        words = self._ids(model)
        require_tokens(self.name, anatomy, (token for ids in words for token in ids))
        directions = [word_state(anatomy, ids, text_layer) for ids in words]
        if self.random:
            drawn = torch.Generator().manual_seed(self.seed)
            directions = [torch.randn(t.shape, generator=drawn).to(t) for t in directions]
            directions = [torch.nn.functional.normalize(t, dim=-1) for t in directions]
        erasing = _Erasing(self, directions)
        erased = changed_outputs(anatomy, {layer: anatomy.layers[layer - 1]}, erasing.erase)
        with attach(anatomy, reader=erasing, layout=source, layers=()), erased:
            yield

    def _ids(self, model: Any) -> list[list[int]]:
        words = [word_tokens(model, word, "the field tokens") for word in self.words or ()]
        return [[token] for token in self.tokens or ()] + words


class _Erasing:
    """Knows where the image of the prompt at hand lies."""

    def __init__(self, method: ProjectAway, directions: list[Tensor]) -> None:
        self._method, self._directions = method, directions
        self._step: ForwardPass | None = None

    def begin(self, step: ForwardPass) -> None:
        """A prompt must have an image."""
        if step.is_start:
            require_image(self._method.name, step.layout)
        self._step = step

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Attention is no matter."""

    def end(self, step: ForwardPass) -> None:
        """The pass is over."""
        self._step = None

    def erase(self, layer: int, x: Float[Tensor, "batch positions hidden"]) -> Float[Tensor, "batch positions hidden"]:
        """The states of the image's tokens, less the words."""
        step = self._step
        if step is None or step.offset + step.length <= 0:
            return x
        image = step.layout.mask(*VISUAL)[:, step.offset : step.offset + step.length].to(x.device)
        if not bool(image.any()):
            return x
        image = torch.nn.functional.pad(image, (0, x.shape[1] - image.shape[1]))
        for direction in self._directions:
            x = torch.where(image[..., None], taken_out(x, direction.to(x), self._method.weight), x)
        return x


def taken_out(
    x: Float[Tensor, "*rows hidden"], t: Float[Tensor, " hidden"], weight: float
) -> Float[Tensor, "*rows hidden"]:
    """States less what in them points along t, of length 1."""
    return x - weight * (x @ t).clamp_min(0)[..., None] * t


def word_state(anatomy: Anatomy, ids: list[int], layer: int) -> Float[Tensor, " hidden"]:
    """t above: behind a layer, the last token of a word run as text alone, of length 1."""
    found: list[Tensor] = []

    def note(module: Any, args: Any, output: Any) -> None:
        found.append((output if isinstance(output, Tensor) else output[0])[0, -1].float())

    start = sorted(anatomy.bos_token_ids)[:1]
    device = next(anatomy.model.parameters()).device
    with Hooks(anatomy, in_bypassed=True) as hooks, bypassed(anatomy), torch.no_grad():
        hooks.after(anatomy.layers[layer - 1], note)
        speaker: Any = find_inner(anatomy) or anatomy.model  # an outer model may not run without a picture
        speaker(input_ids=torch.tensor([start + list(ids)], device=device), use_cache=False)
    return torch.nn.functional.normalize(found[0], dim=-1)
