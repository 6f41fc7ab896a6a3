"""Image features of a prompt, in the language model's space: what the decoder is given at the image's positions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sightline.attention import ForwardPass, is_bypassed
from sightline.attention.hooks import Hooks
from sightline.attention.late_images import refuse_late_images
from sightline.errors import InputError
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality

_SMALLEST = 1e-12

VISUAL = (Modality.IMAGE, Modality.VIDEO)
"""Frames of a video are image too."""


@dataclass
class PromptImages:
    """The image features of the prompt at hand, a tensor a sample; kept while its answer is generated.

    positions: of each sample's image patches in the sequence, ascending. features: [patches, hidden size] alike, as the
    decoder was given them. unit: the same in float32 at length 1, made when first wanted.
    """

    positions: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    _unit: list[Tensor] | None = None

    def add(
        self, step: ForwardPass, embeddings: Float[Tensor, "batch positions hidden"], is_detached: bool = False
    ) -> None:
        """Take the image positions of a prompt, or of the next piece of one."""
        embeddings = embeddings.detach() if is_detached else embeddings
        length = int(embeddings.shape[1])
        visual = step.layout.mask(*VISUAL)[:, step.offset : step.offset + length]
        counts = visual.sum(1).tolist()
        found = torch.split(take_rows(embeddings, visual), counts)
        places = [row.nonzero()[:, 0] + step.offset for row in visual]
        if step.is_start or not self.features:
            self.positions, self.features = places, list(found)
        else:
            self.positions = [torch.cat(pair) for pair in zip(self.positions, places, strict=True)]
            self.features = [torch.cat(pair) for pair in zip(self.features, found, strict=True)]
        self._unit = None

    @property
    def unit(self) -> list[Tensor]:
        """Features at length 1, by sample."""
        if self._unit is None:
            self._unit = [unit_length(part) for part in self.features]
        return self._unit


class ImageTap:
    """Takes the image features of each prompt, by hooks that stand inside `hooked`. Whoever has it is lent to the
    model first, and hands on the `begin` and `end` of every pass.

    step: of the pass at hand, None outside of one, as when a checkpointed layer is computed again. is_ready: whether
    the decoder's layers have been entered in this pass.
    """

    def __init__(self, anatomy: Anatomy, is_detached: bool = False) -> None:
        refuse_late_images("Grounding", anatomy)
        self._anatomy, self._is_detached = anatomy, is_detached
        self.images = PromptImages()
        self.is_ready = False
        self._entering = Hooks(anatomy)
        self._step: ForwardPass | None = None

    @property
    def step(self) -> ForwardPass | None:
        """The pass at hand; None also in one that nothing may see."""
        return None if is_bypassed(self._anatomy) else self._step

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts; with a new prompt the images of the last one go."""
        if step.is_start:
            self.images = PromptImages()
        # A step of an answer brings no image: its first layer is entered without a hook.
        self._step, self.is_ready = step, step.is_decoding and step.offset > 0
        if self.is_ready:
            self._entering.close()
        elif not self._entering.is_open:
            self._entering.before(self._anatomy.layers[0], self._enter, prepend=True)

    def end(self) -> None:
        """The pass is over."""
        self._step, self.is_ready = None, False

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Inside, the hooks are in place."""
        try:
            with Hooks(self._anatomy) as hooks, self._entering:
                hooks.before(self._anatomy.decoder, self._take)
                yield
        finally:
            self.images = PromptImages()
            self.end()

    def _take(self, module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        step = self.step
        given = embeddings_given(module, args, inputs)
        if step is not None and given is not None:
            self._add(step, given)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        """A decoder that embeds the prompt itself shows the image where its first layer is given it."""
        step = self.step
        if step is not None and not self.is_ready:
            self._add(step, states_given(args, inputs))

    def _add(self, step: ForwardPass, given: Tensor) -> None:
        if not step.is_decoding:
            self.images.add(step, given, self._is_detached)
        self.is_ready = True


def words_of(step: ForwardPass, is_whole: bool = False) -> Bool[Tensor, "batch positions"]:
    """Which positions of the pass are words, on the CPU: text of samples with an image; behind the prompt, what is new.

    Without a cache the whole sequence is run again, and only its end is new; is_whole: all of it counts.
    """
    layout, end = step.layout, step.offset + step.length
    has_image = layout.mask(*VISUAL).any(1, keepdim=True)
    text = layout.mask(Modality.TEXT)
    if step.is_decoding:
        text = torch.nn.functional.pad(text, (0, end - layout.length), value=True)
        if not is_whole:
            text[:, : step.offset if step.offset else end - 1] = False
    return text[:, step.offset : end] & has_image


def take_rows(values: Float[Tensor, "batch positions hidden"], where: Tensor) -> Float[Tensor, "rows hidden"]:
    """The rows at [batch, positions], bool on the CPU: found there, so that no GPU is waited for."""
    index = where.flatten().nonzero()[:, 0].to(values.device, non_blocking=True)
    return values.flatten(0, 1).index_select(0, index)


def unit_length(values: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
    """At length 1 in float32 or better; a row of zeros stays one, and its gradient finite."""
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    length: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / length.masked_fill(length < _SMALLEST, 1.0)


def require_sight(name: str, anatomy: Anatomy) -> None:
    """InputError for a model that takes no images."""
    if anatomy.vision_tower is None and not anatomy.image_token_ids and not anatomy.video_token_ids:
        kind = type(anatomy.model).__name__
        raise InputError(f"{kind} takes no images, to which {name} could tie its words: give a vision-language model.")


def require_prompt_image(name: str, step: ForwardPass) -> None:
    """InputError for a prompt without an image in any sample."""
    if not bool(step.layout.mask(*VISUAL).any()):
        raise InputError(f"{name} ties words to the image, and this prompt has none: give an image.")


def embeddings_given(module: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> Tensor | None:
    """The embeddings that a decoder's forward is given, or None where it makes them itself."""
    found = inputs.get("inputs_embeds")
    if found is None and args:
        names = inspect.signature(inspect.unwrap(type(module).forward)).parameters
        found = dict(zip([name for name in names if name != "self"], args, strict=False)).get("inputs_embeds")
    return found if isinstance(found, Tensor) else None


def states_given(args: tuple[Any, ...], inputs: dict[str, Any]) -> Tensor:
    """[batch, positions, hidden]: the hidden states that a layer's or norm's forward is given."""
    return plain_states(args[0] if args else inputs.get("hidden_states", next(iter(inputs.values()))))


def plain_states(states: Tensor) -> Float[Tensor, "batch positions hidden"]:
    """Of states that a layer keeps several of, those that are read on."""
    while states.dim() > 3:
        states = states[0]
    return states
