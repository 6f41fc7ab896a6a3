"""How much attention each image token gets inside the vision tower, by which tokens can be kept or dropped."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sightline.attention import row_weights
from sightline.attention.call import AttentionCall, by_call
from sightline.attention.hooks import Hooks
from sightline.attention.late_images import refuse_late_images
from sightline.attention.weights import weight_blocks
from sightline.errors import InputError, ModelError, SightlineWarning
from sightline.methods.tower_tokens import added_tokens
from sightline.models.anatomy import Anatomy
from sightline.models.anatomy.vision_layers import has_class_token, has_windows, image_tower, tower_layers
from sightline.models.layout.grids import is_resampled

Pick = Callable[[Float[Tensor, " tokens"]], Bool[Tensor, " tokens"]]
"""From the scores of one crop's tokens to those that stay."""


def tower_attention(name: str, anatomy: Anatomy, layer: int) -> nn.Module:
    """The attention module of a layer of the vision tower (negative: from the end); ModelError without one."""
    tower, kind = image_tower(anatomy), type(anatomy.model).__name__
    if tower is None:
        raise ModelError(f"{name} reads the vision tower's attention, and {kind} has no vision tower.")
    if is_resampled(anatomy):
        raise ModelError(f"{name} keeps patches, and the image tokens of {kind} are queries of a resampler.")
    refuse_late_images(name, anatomy)
    if has_windows(tower):
        raise ModelError(f"{name} needs attention over the whole image, and the tower of {kind} looks through windows.")
    found = [attention for _, attention in tower_layers(tower)]
    if not found:
        raise ModelError(f"{name} can't read the attention of the vision tower of {kind}, which computes its own.")
    if not -len(found) <= layer < len(found):
        raise InputError(
            f"Layer {layer} is out of range in {name}: the vision tower has {len(found)} attention layers."
        )
    attention: nn.Module = found[layer]
    return attention


def patch_scores(call: AttentionCall, is_class_first: bool, added: int = 0) -> list[Float[Tensor, " patches"]]:
    """For each row of the call's batch, the attention that each patch gets, averaged over heads.

    From the class token where there is one; else from all patches, on average. A packed call, several images of which
    none sees another, comes out as one row an image. added: tokens that a method put behind each image's patches; they
    neither score nor are scored.
    """
    device = call.query.device
    if is_class_first:
        weights = row_weights(call, torch.zeros(1, dtype=torch.long, device=device)).mean(1)[:, 0]
        return list(weights[:, 1 : weights.shape[1] - added])
    sizes = [_images(call, row) for row in range(call.query.shape[0])]
    own = _own(sizes[0], added).to(device)
    received = torch.zeros((call.query.shape[0], call.keys), device=device)
    for block in weight_blocks(call, own):
        received += block.values.sum((1, 2)) / (call.heads * len(own))
    return [
        image[: len(image) - added]
        for scores, mine in zip(received, sizes, strict=True)
        for image in scores.split(mine)
    ]


def _own(sizes: list[int], added: int) -> Int[Tensor, " patches"]:
    """The places of a row's images but the last `added` of each."""
    ends = list(accumulate(sizes))
    return torch.cat([torch.arange(end - size, end - added) for size, end in zip(sizes, ends, strict=True)])


def _images(call: AttentionCall, row: int) -> list[int]:
    """Patches of each image that stands in one row of the batch; patches of padding belong to the last."""
    if call.mask is None:
        return [call.queries]
    sizes: list[int] = []
    while sum(sizes) < call.queries:
        start = sum(sizes)
        seen = call.visible(torch.tensor([start], device=call.query.device))[row % _batch(call), 0, 0]
        end = int(seen.nonzero().max()) + 1 if bool(seen.any()) else call.queries
        sizes.append(
            max(1, end - start) if end < call.queries and not bool(seen[:start].any()) else call.queries - start
        )
    return sizes


def _batch(call: AttentionCall) -> int:
    return int(call.visible(torch.zeros(1, dtype=torch.long, device=call.query.device)).shape[0])


class TowerChoice:
    """Picks image tokens while the tower runs: `kept` is True for each that stays, in the order of the prompt."""

    def __init__(self, name: str, anatomy: Anatomy, layer: int, pick: Pick) -> None:
        self._name, self._anatomy, self._pick = name, anatomy, pick
        self._attention = tower_attention(name, anatomy, layer)
        self.is_class_first = has_class_token(image_tower(anatomy))
        self._scores: list[Tensor] = []
        self._keys: list[Tensor] = []
        self._packed: Tensor | None = None

    def warn_without_class(self) -> None:
        """Say that a tower without a class token is scored otherwise than in the paper."""
        if not self.is_class_first:
            warnings.warn(
                f"{self._name}: this vision tower has no class token, so patches are scored by the attention they "
                "receive from all others on average.",
                SightlineWarning,
                stacklevel=4,
            )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at every image the model is given inside."""
        packers = [part for part in self._anatomy.model.modules() if hasattr(part, "image_newline")]
        tower = image_tower(self._anatomy)
        with Hooks(self._anatomy) as hooks:
            if tower is not None:
                hooks.before(tower, self._begin)
            hooks.intercept([self._attention], by_call(self._attend))
            for part in packers:
                if hasattr(part, "pack_image_features"):
                    hooks.shadow(part, "pack_image_features", self._packing)
            yield

    @property
    def scores(self) -> list[Float[Tensor, " patches"]]:
        """Of each picture (each tile) that went through the tower and is not used yet."""
        return self._scores

    @property
    def keys(self) -> list[Float[Tensor, "patches width"]]:
        """Alike, the keys of the patches in that layer, averaged over heads."""
        return self._keys

    def spread(self, image: Bool[Tensor, "batch positions"]) -> Bool[Tensor, "batch positions"]:
        """All positions but the image tokens that go; beams and copies of a sample, from one encoding, share theirs."""
        kept = self.kept(int(image.sum()), len(image)).cpu()
        copies = int(image.sum()) // len(kept)
        keep = ~image
        for copy in range(copies):
            rows = torch.arange(copy, len(image), copies)
            part = keep[rows]
            part[image[rows]] = kept
            keep[rows] = part
        return keep

    def kept(self, count: int, batch: int) -> Bool[Tensor, " tokens"]:
        """For the `count` image tokens of `batch` rows, copies of a sample (beams) once; forgets the images."""
        scores, packed = self._scores, self._packed
        self._scores, self._keys, self._packed = [], [], None
        if not scores:
            raise InputError(
                f"{self._name} has to see the image go through the vision tower: enter it before the image is encoded, "
                "and give pixels, not features, in one pass without prefill_chunk_size."
            )
        if packed is not None:
            return packed
        if self.is_class_first and count == sum(map(len, scores)) + len(scores):
            # The class token is an image token as well, and stays.
            return torch.cat([torch.cat([torch.ones(1, dtype=torch.bool), self._pick(part)]) for part in scores])
        return torch.cat([self._pick(part) for part in self._by_token(scores, count, batch)])

    def _begin(self, *_: Any) -> None:
        """New images: what is left of a prompt that failed is forgotten."""
        self._scores, self._keys, self._packed = [], [], None

    def _attend(self, call: AttentionCall) -> None:
        added = added_tokens(self._anatomy)
        with torch.no_grad():
            self._scores += patch_scores(call, self.is_class_first, added)
            self._keys += list(call.key.float().mean(1)[:, int(self.is_class_first) : call.keys - added])

    def _packing(self, original: Any) -> Any:
        """Tiles are put together and cut by the model itself: its own packing is run on the choice as well."""

        def pack(image_features: Any, image_sizes: Any, *args: Any, **kwargs: Any) -> Any:
            if self._scores:
                tiles = iter(self._scores)
                chosen = [
                    torch.stack([self._pick(next(tiles)).float()[:, None] for _ in image]) for image in image_features
                ]
                # Newlines between the rows of patches stay, as in the method's public code.
                newline = torch.ones(1, device=chosen[0].device)
                packed, _ = original(chosen, image_sizes, *args, **{**kwargs, "image_newline": newline})
                self._packed = torch.cat([image[:, 0] >= 0.5 for image in packed])
            return original(image_features, image_sizes, *args, **kwargs)

        return pack

    def _by_token(self, scores: list[Tensor], count: int, batch: int) -> list[Tensor]:
        """Patches that the model merges are scored together, by their mean."""
        patches = sum(map(len, scores))
        for merge in range(1, 9):
            tokens = patches // merge**2
            copies = count // max(1, tokens)
            if tokens and tokens * merge**2 == patches and copies * tokens == count and batch % copies == 0:
                merged = [self._merged(part, merge) for part in scores]
                if all(part is not None for part in merged):
                    return [part for part in merged if part is not None]
        raise ModelError(
            f"{self._name} can't tell which of the {patches} patches make up the {count} image tokens of "
            f"{type(self._anatomy.model).__name__}."
        )

    def _merged(self, scores: Tensor, merge: int) -> Tensor | None:
        if merge == 1:
            return scores
        if getattr(getattr(image_tower(self._anatomy), "config", None), "spatial_merge_size", 1) == merge:
            return scores.reshape(-1, merge**2).mean(1)  # such towers keep the patches of a token together
        side = math.isqrt(len(scores))
        if side * side != len(scores) or side % merge:
            return None
        blocks = scores.reshape(side // merge, merge, side // merge, merge)
        return blocks.mean((1, 3)).reshape(-1)
