"""Grounding scores: how close each word is to the image, read while the model runs, trains or answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention import attach
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.models.anatomy import Anatomy

if TYPE_CHECKING:
    from sightline.probes.grounding.head import GroundingHead
    from sightline.probes.grounding.probe import GroundingProbe

Kind = Literal["similarity", "attention", "learned"]
Projection = Literal["none", "linear"]


@dataclass(frozen=True)
class Scores:
    """Grounding of the words of one forward pass; in training it carries the graph.

    Attributes:
        values: [batch, positions of the pass], the mean over layers; 0 where `is_text` is False, never NaN for it.
        by_layer: [layers, batch, positions], alike, in the order of the layers chosen.
        is_text: [batch, positions], bool: text of samples that have an image. Padding is no text.
        patches: [batch, positions], the image position (in the sequence) that speaks most for the word, over all
            layers; -1 where there is none. None in training.
    """

    values: Float[Tensor, "batch positions"]
    by_layer: Float[Tensor, "layers batch positions"]
    is_text: Bool[Tensor, "batch positions"]
    patches: Int[Tensor, "batch positions"] | None = None


@dataclass(frozen=True)
class TokenScore:
    """Grounding of one generated token.

    Attributes:
        token, text: its id, and how it is written ("" on a bare model, which brings no tokenizer).
        score: the mean over layers; None for the last token of an answer, which the model is never given, and for
            prompts without an image.
        layers: the score by layer; empty where `score` is None.
        patch: which of the sample's image positions, from 0, speaks most for the token; None where `score` is.
        grid, row, column: the patch grid of the sample that it lies in, and where; None where grids are not known.
    """

    token: int
    text: str
    score: float | None
    layers: tuple[float, ...] = ()
    patch: int | None = None
    grid: int | None = None
    row: int | None = None
    column: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return {**self.__dict__, "layers": list(self.layers)}


@register
@dataclass(frozen=True)
class Grounding(Method):
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
    layers: str = setting("last4", "layers to read: last4 (or any number), all, or 28+29+30+31")
    kind: Kind = setting("similarity", "how a word is scored: similarity, attention or learned")
    top: int = setting(1, "similarity: mean over so many closest patches, 1 and up")
    projection: Projection = setting("none", "before the cosine: none, or a learned linear map of the words")
    renormalise: bool = setting(False, "attention: divide by the attention that the image gets")
    detach_image: bool = setting(False, "training: keep the gradient from the image features")

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"kind is {self.kind} in grounding: give similarity, attention or learned.")
        if self.projection not in get_args(Projection):
            raise InputError(f"projection is {self.projection} in grounding: give none or linear.")
        if self.projection == "linear" and self.kind == "learned":
            raise InputError("kind=learned has no cosine to project for in grounding: leave projection out.")
        if self.top < 1:
            raise InputError(f"top is {self.top} in grounding: give the number of patches, 1 and up.")
        _layer_names(self.layers)

    @property
    def is_learned(self) -> bool:
        """Whether a `GroundingHead` is part of it."""
        return self.kind == "learned" or self.projection != "none"

    @property
    def reads_attention(self) -> bool:
        """Whether attention weights are part of it."""
        return self.kind != "similarity"

    def chosen_layers(self, anatomy: Anatomy) -> tuple[int, ...]:
        """The layers as indices, ascending.

        Raises:
            InputError: for a layer that the model has not, or that has no attention where that is read.
        """
        count, written = len(anatomy.layers), _layer_names(self.layers)
        layers = tuple(range(count)) if written is None else written
        if isinstance(layers, int):
            if layers > count:
                raise InputError(
                    f"layers is {self.layers} in grounding and the model has {count}: write all, or last{count}."
                )
            layers = tuple(range(count - layers, count))
        if layers[-1] >= count:
            raise InputError(f"Layer {layers[-1]} is out of range in grounding: the model has layers 0 to {count - 1}.")
        blind = [layer for layer in layers if anatomy.attentions[layer] is None] if self.reads_attention else []
        if blind:
            raise InputError(
                f"Layer {blind[0]} has no softmax attention, which grounding of kind {self.kind} reads: leave it out."
            )
        return layers

    def make_head(self, model: Any, seed: int = 0) -> GroundingHead:
        """A fresh head for a `VLM` or a bare model, on its device; its parameters are float32.

        Raises:
            InputError: where nothing is learned.
        """
        import torch

        from sightline.probes.grounding.head import GroundingHead

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
        """Score what runs inside; the probe's `scores()` tells of the last forward pass, `result()` of all answers.

        head: the learned part, where there is one; by default it is loaded from the folder that the VLM came from.

        Raises:
            InputError: for a layer that the model has not, a model or a prompt without images, a head that is missing
                or of another kind, layers or width.
        """
        from sightline.probes.grounding.image import require_sight
        from sightline.probes.grounding.probe import GroundingProbe

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
            from sightline.probes.grounding.head import GroundingHead

            head = GroundingHead.load(str(getattr(model, "name", type(anatomy.model).__name__)))
            head.to(next(anatomy.model.parameters()).device)
        head.require_fit(self.kind, self.projection, layers, anatomy.hidden_size)
        return head


def _layer_names(written: str) -> tuple[int, ...] | int | None:
    """Indices, or how many from the end, or None for all."""
    if written == "all":
        return None
    count = written.removeprefix("last")
    if written != count and count.isdecimal() and int(count) > 0:
        return int(count)
    parts = written.split("+")
    if all(part.strip().isdecimal() for part in parts):
        return tuple(sorted({int(part) for part in parts}))
    raise InputError(f"layers is '{written}' in grounding: write last4, all, or indices as 28+29+30+31.")
