"""Checking sink dimensions against attention itself, and where in the image the sinks lie.

    attention received by token j in a layer:   mean over text rows i > j that see j, and over heads, of  n_i a_ij
    j is a sink by attention when that is at least `factor`                   n_i: how many keys row i sees, 8 or more

so 1 is what uniform attention would give. Precision: the share of tokens with phi > tau that are sinks by attention;
recall: the share of sinks by attention with phi > tau; over all samples and the layers from 2 on, text and image alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.attention.sink_tracker import FIRST_LAYER, SinkTracker
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, PatchGrid

if TYPE_CHECKING:
    from PIL import Image

FACTOR = 3.0
"""A sink by attention draws this many times what uniform attention would give it."""

FEWEST_KEYS = 8
"""Rows that see fewer keys can't give a token many times its uniform share; they don't count."""

FLAT = 0.02
"""A patch is uniform background when its grey values deviate less than this, of 1 from black to white."""

_SIDE = 8
"""Pixels by pixels that a patch is looked at with."""


@dataclass(frozen=True)
class LayerCheck:
    """One sample in one layer, in tokens.

    image_sinks, text_sinks: phi > tau (text: all that is no image and no padding). attended: sinks by attention.
    agreed: both. on_border, on_background: image sinks there, of those whose place in the image is known (placed).
    """

    layer: int
    image_sinks: int
    text_sinks: int
    attended: int
    agreed: int
    placed: int = 0
    on_border: int = 0
    on_background: int = 0


@dataclass(frozen=True)
class SampleCheck:
    """One sample. patches: image tokens whose place is known; border, background: how many of them lie there."""

    layers: tuple[LayerCheck, ...]
    patches: int = 0
    border: int = 0
    background: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As a run folder keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SampleCheck:
        """The inverse of `to_dict`."""
        return cls(**{**document, "layers": tuple(LayerCheck(**entry) for entry in document["layers"])})


Pictures = Sequence[Sequence["Image.Image"]]
"""The images of each sample, in order."""


def check(
    anatomy: Anatomy,
    run: Any,
    dims: Sequence[int],
    tau: float,
    factor: float = FACTOR,
    layout: LayoutSource | None = None,
    pictures: Pictures | None = None,
) -> list[SampleCheck]:
    """Runs prompts and compares phi > tau with attention; one result a sample, in order.

    run: called without arguments; it runs the model once on the prompts. pictures: to find uniform background.
    Keeps two numbers a token and layer.
    """
    checker = _Checker(anatomy, dims, tau, factor, pictures)
    try:
        with torch.no_grad(), attach(anatomy, reader=checker, layout=layout):
            run()
    finally:
        checker.close()
    return checker.results()


class _Checker:
    """Compares, layer by layer, while the prompt runs."""

    def __init__(
        self, anatomy: Anatomy, dims: Sequence[int], tau: float, factor: float, pictures: Pictures | None
    ) -> None:
        self._watch = SinkTracker(anatomy, dims, tau)
        self._factor, self._pictures = factor, pictures
        self._done: list[SampleCheck] = []
        self._layers: list[list[LayerCheck]] = []
        self._places: list[_Places] = []

    def begin(self, step: ForwardPass) -> None:
        """A prompt begins."""
        self._watch.begin(step)
        if step.is_start:
            self._close_batch()
            self._layers = [[] for _ in range(step.batch)]
            first = len(self._done)
            pictures = self._pictures or ()
            self._places = [
                _Places.of(step.layout.grids[sample], step.layout.length, pictures[first + sample : first + sample + 1])
                for sample in range(step.batch)
            ]

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Take what the text rows of a prompt give to each token."""
        if layer < FIRST_LAYER or step.is_decoding or step.offset:
            return
        received = attention_received(attention, step).cpu()
        modality = step.layout.modality
        attended = (received >= self._factor) & (modality != int(Modality.PADDING))
        marks = self._watch.marks(layer)
        sinks = torch.zeros_like(attended) if marks is None else marks.cpu()
        image = step.layout.mask(Modality.IMAGE, Modality.VIDEO)
        for sample, places in enumerate(self._places):
            here = sinks[sample] & image[sample]
            counts = (here, sinks[sample] & ~image[sample], attended[sample], attended[sample] & sinks[sample])
            where = (here & places.known, here & places.border, here & places.background)
            self._layers[sample].append(LayerCheck(layer, *(int(part.sum()) for part in (*counts, *where))))

    def end(self, step: ForwardPass) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Take all hooks off."""
        self._watch.close()

    def results(self) -> list[SampleCheck]:
        """One a sample, in order."""
        self._close_batch()
        return self._done

    def _close_batch(self) -> None:
        for layers, places in zip(self._layers, self._places, strict=True):
            numbers = (int(part.sum()) for part in (places.known, places.border, places.background))
            self._done.append(SampleCheck(tuple(layers), *numbers))
        self._layers, self._places = [], []


def attention_received(attention: EditedCall, step: ForwardPass) -> Tensor:
    """[batch, positions]: the attention that each token of a whole prompt draws from later text, 1 being uniform."""
    call = attention.call
    device, keys = call.query.device, call.keys
    wanted = (step.layout.modality == int(Modality.TEXT)).to(device)
    rows = wanted.any(0).nonzero()[:, 0]
    total, count = (torch.zeros((step.batch, keys), device=device) for _ in range(2))
    index = torch.arange(keys, device=device)
    for _, block in attention.weight_blocks(rows):
        seen = call.visible(block.rows)
        seen = seen[:, block.head : block.head + block.values.shape[1]] if seen.shape[1] > 1 else seen
        # A row's attention to itself is no sign of a sink.
        counted = seen & (index < block.rows[:, None]) & wanted[:, block.rows][:, None, :, None]
        uniform = seen.sum(-1, keepdim=True)
        counted = counted & (uniform >= FEWEST_KEYS)
        total += (block.values * uniform * counted).sum((1, 2))
        count += counted.expand(*block.values.shape).sum((1, 2))
    return total / count.clamp_min(1)


@dataclass(frozen=True)
class _Places:
    """Of one sample, [positions], bool: which image tokens have a known place, lie on the border, show background."""

    known: Tensor
    border: Tensor
    background: Tensor

    @classmethod
    def of(cls, grids: Sequence[PatchGrid], length: int, pictures: Pictures) -> _Places:
        places = cls(*(torch.zeros(length, dtype=torch.bool) for _ in range(3)))
        images = pictures[0] if len(pictures) else ()
        for grid in grids:
            if grid.box is None:
                continue
            here = grid.positions >= 0
            tokens = grid.positions[here]
            places.known[tokens] = True
            places.border[tokens] = _border(grid)[here]
            if grid.frame is None and grid.index < len(images):
                places.background[tokens] = _flat(grid, images[grid.index])[here]
        return places


def _border(grid: PatchGrid) -> Tensor:
    """[rows, columns], bool: the patches at the edge of the image; a tile's inner edges are none."""
    left, top, right, bottom = grid.box or (0.0, 0.0, 1.0, 1.0)
    border = torch.zeros(grid.positions.shape, dtype=torch.bool)
    border[0] |= top <= 0
    border[-1] |= bottom >= 1
    border[:, 0] |= left <= 0
    border[:, -1] |= right >= 1
    return border


def _flat(grid: PatchGrid, image: Image.Image) -> Tensor:
    """[rows, columns], bool: the patches without anything on them, taking the grid to cover its box of the image."""
    import numpy as np
    from PIL import Image as Images

    width, height = image.size
    left, top, right, bottom = grid.box or (0.0, 0.0, 1.0, 1.0)
    box = (left * width, top * height, right * width, bottom * height)
    size = (grid.columns * _SIDE, grid.rows * _SIDE)
    grey = torch.from_numpy(np.array(image.convert("L").resize(size, Images.Resampling.BILINEAR, box=box))).float()
    patches = grey.reshape(grid.rows, _SIDE, grid.columns, _SIDE) / 255
    return patches.std((1, 3), correction=0) < FLAT
