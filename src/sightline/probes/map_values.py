"""The maps of a sample: which word and patch each column is, and their values as bytes."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

Array = NDArray[np.float32]


@dataclass(frozen=True)
class MapGrid:
    """Patches of one image or frame. cells: [rows, columns] the map's column of each, -1 where there is none.

    index: which image of the sample; box: the part of it that the grid covers; pooled: patches summed along a side.
    """

    modality: str
    index: int
    cells: NDArray[np.int64]
    box: tuple[float, ...] | None = None
    frame: int | None = None
    pooled: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "modality": self.modality,
            "index": self.index,
            "shape": list(self.cells.shape),
            "cells": self.cells.ravel().tolist(),
            "box": None if self.box is None else list(self.box),
            "frame": self.frame,
            "pooled": self.pooled,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> MapGrid:
        """The inverse of `to_dict`."""
        box = document.get("box")
        cells = np.array(document["cells"], dtype=np.int64).reshape(document["shape"])
        return cls(
            document["modality"],
            int(document["index"]),
            cells,
            None if box is None else tuple(box),
            document.get("frame"),
            int(document["pooled"]),
        )


@dataclass(frozen=True)
class SampleMaps:
    """The maps of one sample.

    Attributes:
        layers: those with softmax attention.
        positions: of the words of the prompt that are kept; the first columns of the maps.
        grids: of the patches, which are the other columns.
        mean: [words, layers, columns], over heads.
        heads: [words or 1, layers, heads, columns of head_grids]; with 1, the mean over the words. None without images.
        sinks: [layers, columns], bool: where sinks are known, else only BOS.
        has_sinks: whether sinks were looked for.
    """

    layers: tuple[int, ...]
    positions: tuple[int, ...]
    grids: tuple[MapGrid, ...]
    mean: Array
    heads: Array | None
    head_grids: tuple[MapGrid, ...]
    sinks: NDArray[np.bool_]
    has_sinks: bool

    def to_dict(self) -> dict[str, Any]:
        """As a run folder keeps it: values as bytes on a square-root scale, each word and layer by its largest."""
        return {
            "layers": list(self.layers),
            "positions": list(self.positions),
            "grids": [grid.to_dict() for grid in self.grids],
            "mean": pack(self.mean, 1),
            "heads": None if self.heads is None else pack(self.heads, 1),
            "head_grids": [grid.to_dict() for grid in self.head_grids],
            "sinks": _packed_bits(self.sinks),
            "has_sinks": self.has_sinks,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SampleMaps:
        """The inverse of `to_dict`, to within 1/255 of the root of each word's and layer's largest value."""
        mean = unpack(document["mean"])
        heads = document["heads"]
        return cls(
            tuple(document["layers"]),
            tuple(document["positions"]),
            tuple(map(MapGrid.from_dict, document["grids"])),
            mean,
            None if heads is None else unpack(heads),
            tuple(map(MapGrid.from_dict, document["head_grids"])),
            _unpacked_bits(document["sinks"], (mean.shape[1], mean.shape[2])),
            bool(document["has_sinks"]),
        )


def pack(values: Array, group_axis: int) -> dict[str, Any]:
    """Values as bytes: |v| = scale (b / 255)^2, a scale for each entry of the axes up to `group_axis`.

    Returns {"shape", "scale", "bytes"}: the scales as little-endian float32 in base64, the bytes deflated, in base64.
    """
    axes = tuple(range(group_axis + 1, values.ndim))
    scale = np.max(values, axis=axes, initial=0.0).astype("<f4")
    shaped = scale.reshape(scale.shape + (1,) * len(axes))
    share = np.divide(values, shaped, out=np.zeros(values.shape, dtype=np.float32), where=shaped > 0)
    levels = np.rint(np.sqrt(np.clip(share, 0, 1)) * 255).astype(np.uint8)
    return {
        "shape": list(values.shape),
        "scale": base64.b64encode(scale.tobytes()).decode(),
        "bytes": base64.b64encode(zlib.compress(levels.tobytes(), 6)).decode(),
    }


def unpack(packed: Mapping[str, Any]) -> Array:
    """The inverse of `pack`; ValueError where the bytes are torn."""
    shape = tuple(packed["shape"])
    scale = np.frombuffer(base64.b64decode(packed["scale"]), dtype="<f4")
    try:
        levels = np.frombuffer(zlib.decompress(base64.b64decode(packed["bytes"])), dtype=np.uint8)
    except zlib.error as error:
        raise ValueError(f"the bytes of a map cannot be read ({error})") from error
    values = (levels.reshape(shape).astype(np.float32) / 255) ** 2
    groups = values.reshape(scale.size, -1) if scale.size else values.reshape(0, 0)
    return np.asarray((groups * scale[:, None]).reshape(shape), dtype=np.float32)


def _packed_bits(bits: NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def _unpacked_bits(text: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=math.prod(shape))
    return bits.reshape(shape).astype(np.bool_)
