"""Grounding scores: how close each word is to the image, read while the model runs, trains or answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from sightline.attention import attach
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register
from sightline.models.anatomy import Anatomy
from sightline.probes.grounding.form import ScoreForm
from sightline.probes.grounding.head import GroundingHead
from sightline.probes.grounding.image import require_sight
from sightline.probes.grounding.probe import GroundingProbe


@register
@dataclass(frozen=True)
class Grounding(ScoreForm, Method):
    """Scores each word by how grounded it is in the image; it reads the model and changes nothing.

    With h_t the hidden state of text token t after layer l, at the position of the token itself, and v_p the projected
    feature of image patch p, as the language model is given it among its input embeddings:

        similarity   g_t = max_p cos(h_t, v_p)                 or the mean of the `top` largest
        attention    g_t = sum_p a_tp cos(h_t, v_p)            a_tp: attention of row t on patch p, mean over heads
        learned      g_t = tanh MLP [h_t ; sum_p a_tp v_p]     a_tp renormalised to sum to 1 over the patches

    g_t is the mean over `layers`, between -1 and 1. All patches of all images (and frames of videos) of the sample
    count. Features that some models add in deeper layers (DeepStack) are left aside. "After layer l" is what the next
    layer is given; after the last, what the final norm is given.

    Attention weights sum to 1 over the whole sequence, so that `attention` stays within the mass that the image gets;
    `renormalise` divides by that mass. In training the weights count as constants: the loss moves the words, and is
    not met by moving the gaze. `projection="linear"` puts a learned matrix before the cosine, W_l h_t; it begins as
    the identity. What is learned lives in a `GroundingHead`.

    The gradient also reaches the image features and so the projector, as the formula says. With `detach_image` it
    does not: then the words must come to the image, and the image cannot come to the words.

    Source: pragya-s7/Adversarial-Image-Generation, whose temperature and slicing of the text are not taken over.
    """

    name: ClassVar[str] = "grounding"
    reads_only: ClassVar[bool] = True

    def make_head(self, model: Any, seed: int = 0) -> GroundingHead:
        """A fresh head for a `VLM` or a bare model, on its device; its parameters are float32.

        Raises:
            InputError: where nothing is learned.
        """
        anatomy, _ = anatomy_and_layout(model, None)
        layers = self.chosen_layers(anatomy)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = GroundingHead(layers, anatomy.hidden_size, self.kind, self.projection)
        return head.to(next(anatomy.model.parameters()).device)

    @contextmanager
    def on(
        self, model: Any, layout: LayoutSource | None = None, head: GroundingHead | None = None
    ) -> Iterator[GroundingProbe]:
        """Score what runs inside; the probe's `scores()` is of the last forward pass, `result()` of all answers.

        head: the learned part, where there is one; by default it is loaded from the folder that the VLM came from.

        Raises:
            InputError: for a layer that the model has not, a model or a prompt without images, a head that is missing
                or of another kind, layers or width.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        layers = self.chosen_layers(anatomy)
        if layout is None:  # a layout given by hand knows better
            require_sight("grounding", anatomy)
        head = self._fitting_head(head, model, layers, anatomy)
        probe = GroundingProbe(self, anatomy, layers, head, getattr(model, "tokenizer", None), source)
        read = layers if self.reads_attention else ()
        with attach(anatomy, reader=probe, layout=source, layers=read), probe.watching():
            yield probe

    def _fitting_head(
        self, head: GroundingHead | None, model: Any, layers: tuple[int, ...], anatomy: Anatomy
    ) -> GroundingHead | None:
        if not self.is_learned:
            if head is not None:
                raise InputError(
                    "Grounding by similarity or attention without a projection has no learned part: leave head out."
                )
            return None
        if head is None:
            head = GroundingHead.load(str(getattr(model, "name", type(anatomy.model).__name__)))
            head.to(next(anatomy.model.parameters()).device)
        head.require_fit(self.kind, self.projection, layers, anatomy.hidden_size)
        return head
