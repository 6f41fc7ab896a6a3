"""Localization heads: which heads look at one place of the image, and where (arXiv 2503.06287, CVPR 2025).

    S_h = sum over image tokens j of a_j^h                  a: attention of the row that predicts the next word
    kept: heads whose S is at the elbow of all S or above: of the sorted curve, the point farthest from its chord
    B = max(0, A - mean A);   components: cells of B > 0.001 that touch, also at corners
    E_h = - sum over components c of p_c log p_c            p_c = sum of B in c / sum of all B
    of the kept, those of the lowest E first; heads whose whole bottom row is lit, or no cell, are left out
    box: around the component of the largest convex hull where the heads' sum, smoothed, is above its mean

A: [rows, columns], a head's weights on the patches of the first picture, in the crop that shows it whole, or on the
first frame of a video; heads of the layers from `first_layer` on, for
the paper leaves the first two out. The paper takes the three heads that come first most often over 1,000 samples of a
model, and smooths with a Gaussian of 7 cells and sigma 1. Its public code (8ce33b0) keeps heads by their place in the
list where it means their sum; here it is the sum. It also notes a lit bottom row and keeps the head, takes all layers,
and gives E = 0, the best there is, to a head that lights nothing, which is left out here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from scipy.spatial import ConvexHull
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.errors import InputError
from sightline.methods.base import anatomy_and_layout
from sightline.models.layout import TokenLayout
from sightline.models.logits import plain_pass

LIT = 0.001
"""What a cell must be above the mean to be part of a component."""

FIRST_LAYER = 2
"""The paper looks at no head of the two layers before."""

SIGMA = 1.0
"""Of the Gaussian that smooths a map, in patches; it ends at three of them."""


@dataclass(frozen=True)
class LocatingHead:
    """One head that looks at a place.

    Attributes:
        layer, head: of the model, counted from 0.
        mass: S above.
        entropy: E above, in nats; 0: one place.
        map: its attention to the patches, [rows, columns].
    """

    layer: int
    head: int
    mass: float
    entropy: float
    map: Float[Tensor, "rows columns"]

    @property
    def name(self) -> str:
        """As `layer.head`."""
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True)
class Localization:
    """Where a prompt's next word looks.

    Attributes:
        heads: the lowest spatial entropy first.
        threshold: the elbow of S.
        cells: the positions of the picture's patches in the prompt, -1 where there is none.
    """

    heads: tuple[LocatingHead, ...]
    threshold: float
    cells: Int[Tensor, "rows columns"] = field(default_factory=lambda: torch.zeros((0, 0), dtype=torch.long))

    def map(self, heads: int | Iterable[str] = 3, sigma: float = 0.0) -> Float[Tensor, "rows columns"]:
        """The summed attention of the first heads, or of those named as `layer.head` (a list for the model).

        sigma: of a Gaussian that smooths it, in patches; 0: none.
        """
        chosen = self.heads[:heads] if isinstance(heads, int) else [one for one in self.heads if one.name in set(heads)]
        if not chosen:
            raise InputError("No head looks at one place in this prompt, so there is no map of where.")
        total = torch.stack([one.map for one in chosen]).sum(0)
        if not sigma:
            return total
        return torch.as_tensor(ndimage.gaussian_filter(total.double().numpy(), sigma, truncate=3.0))

    def box(self, heads: int | Iterable[str] = 3, sigma: float = SIGMA) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) in patches, the last two behind the last cell; see above for which.

        Raises:
            InputError: where no head is left, or their map is the same everywhere.
        """
        found = self.map(heads, sigma)
        places, count = ndimage.label((found > found.mean()).numpy(), structure=np.ones((3, 3)))
        if not count:
            raise InputError("The heads look everywhere alike in this prompt, so there is no box around a place.")
        best = max(range(1, count + 1), key=lambda part: _hull(np.argwhere(places == part)))
        rows, columns = np.nonzero(places == best)
        return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1

    def to_dict(self) -> dict[str, Any]:
        """As a JSON document."""
        return {
            "threshold": self.threshold,
            "heads": [
                {"layer": one.layer, "head": one.head, "mass": one.mass, "entropy": one.entropy} for one in self.heads
            ],
        }


def localize(model: Any, inputs: Mapping[str, Any], first_layer: int = FIRST_LAYER) -> Localization:
    """Which heads of a model look at one place of a prompt's first picture.

    Args:
        model: a `VLM`, or a bare Transformers model.
        inputs: of the forward, one sample.
        first_layer: whose heads are the first that are looked at.

    Raises:
        InputError: for a batch, a prompt without a picture that a known grid shows whole, and a model without softmax
            attention from the first layer on.
    """
    anatomy, source = anatomy_and_layout(model, None)
    if not any(layer >= first_layer for layer in anatomy.attention_layers):
        raise InputError(
            f"No layer from {first_layer} on has softmax attention in this model, so no heads: give a lower one."
        )
    reader = _LastRow()
    with attach(anatomy, reader=reader, layout=source), torch.no_grad():
        plain_pass(anatomy.model, inputs)
    layout = reader.layout
    if layout is None or layout.batch != 1:
        raise InputError("localize takes one prompt: give inputs of a batch of one.")
    whole = layout.whole()
    if whole is None:
        raise InputError(f"localize needs a picture whose patches are a grid{_why_not(layout)}")
    cells = whole.positions
    maps = {
        layer: rows[0][:, cells.clamp(min=0)] * (cells >= 0)
        for layer, rows in reader.rows.items()
        if layer >= first_layer
    }
    mass = {(layer, head): float(one.sum()) for layer, heads in maps.items() for head, one in enumerate(heads)}
    threshold = elbow(list(mass.values()))
    found = []
    for (layer, head), value in mass.items():
        one = maps[layer][head]
        entropy = spatial_entropy(one)
        if value < threshold or entropy == float("inf") or bool((one[-1] > one.mean() + LIT).all()):
            continue
        found.append(LocatingHead(layer, head, value, entropy, one))
    return Localization(tuple(sorted(found, key=lambda one: one.entropy)), threshold, cells)


def _why_not(layout: TokenLayout) -> str:
    """Behind a refusal: why there is no grid of the whole picture, and what to give."""
    if layout.notes:
        return f": {layout.notes[0][0].lower()}{layout.notes[0][1:]}"
    if layout.grids[0]:
        return ", and this one is cut into crops whose places are not known: give the VLM with its processor, a Sample."
    return ": give a prompt with an image."


def frequent_heads(found: Iterable[Localization], count: int = 3, first: int = 10) -> tuple[str, ...]:
    """The heads that are among the `first` of most samples: a list for the model, as `layer.head`.

    The paper takes the elbow of the mean S over all samples; its public code, as here, that of each sample's own.
    """
    votes = Counter(one.name for each in found for one in each.heads[:first])
    return tuple(name for name, _ in votes.most_common(count))


def elbow(values: list[float]) -> float:
    """The value at which a sorted curve bends most: the farthest from the chord between its ends, on either side."""
    curve = np.sort(np.asarray(values))
    if len(curve) < 3 or curve[0] == curve[-1]:
        return float(curve[0])
    along = np.linspace(0, 1, len(curve))
    height = (curve - curve[0]) / (curve[-1] - curve[0])
    return float(curve[int(np.argmax(np.abs(along - height)))])


def spatial_entropy(attention: Float[Tensor, "rows columns"]) -> float:
    """E above; infinite where nothing is lit."""
    places, count = _components(attention)
    rest = (attention - attention.mean()).clamp_min(0).numpy()
    if not count:
        return float("inf")
    p = np.asarray([float(rest[places == part].sum()) for part in range(1, count + 1)]) / float(rest.sum())
    return max(0.0, float(-(p * np.log(p)).sum()))


def _hull(cells: np.ndarray) -> float:
    """The area of the convex hull of whole cells, in cells; cells: [cells, 2], row and column."""
    corners = (cells[:, None] + np.array([(0, 0), (0, 1), (1, 0), (1, 1)])).reshape(-1, 2)
    return float(ConvexHull(corners).volume)


def _components(attention: Float[Tensor, "rows columns"]) -> tuple[np.ndarray, int]:
    rest = (attention - attention.mean()).clamp_min(0).numpy()
    places, count = ndimage.label(rest > LIT, structure=np.ones((3, 3)))
    return np.asarray(places), int(count)


class _LastRow:
    """The weights of the prompt's last row, [batch, heads, keys], by layer."""

    def __init__(self) -> None:
        self.rows: dict[int, Tensor] = {}
        self.layout: Any = None

    def begin(self, step: ForwardPass) -> None:
        """The prompt's layout."""
        self.layout = step.layout

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """The last row."""
        last = torch.tensor([attention.call.queries - 1], device=attention.call.query.device)
        self.rows[layer] = attention.row_weights(last)[:, :, 0].cpu()

    def end(self, step: ForwardPass) -> None:
        """The pass is over."""
