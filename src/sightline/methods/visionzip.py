"""VisionZip: the most attended patches stay, the others are merged into a few (arXiv 2412.04467, CVPR 2025)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sightline.attention import attach
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, ModelError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.generating import check_least
from sightline.methods.pruning import check_keep, kept_count
from sightline.methods.shorten import PromptPruning
from sightline.methods.tower import TowerChoice
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout


@register
@dataclass(frozen=True)
class VisionZip(Method):
    """Keeps the patches that the vision tower attends to, and merges the rest into some of them.

        dominant:   the keep - merged patches of the largest a[CLS, j], heads averaged, in the tower's layer `layer`
        targets:    `merged` of the others, evenly spaced in order
        x_target <- x_target + mean of the patches whose most alike target this is        cos of keys of that layer
        all else is dropped

    x: [patches, width], what the tower hands to the projector. The kept stand in the order of the image (the public
    code puts the merged last). A tower without a class token scores patches by the attention they receive on average.
    It fits models in which each patch of a picture becomes one token: others are refused. Control: `merged` = 0, which
    is `fastervlm`, and `prune_random`.
    """

    name: ClassVar[str] = "visionzip"
    keep: float = setting(64.0, "patches kept of each picture: a share up to 1, or a number above it")
    merged: int = setting(10, "of these, how many are merged from all that is not dominant, 0 or more")
    layer: int = setting(-2, "layer of the vision tower that tells; -1 is its last")

    def __post_init__(self) -> None:
        check_keep(self.name, self.keep)
        check_least(self.name, 0, merged=self.merged)
        if self.keep > 1 and self.merged >= self.keep:
            raise InputError(f"merged is {self.merged} in visionzip: give fewer than the {self.keep:g} patches kept.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside.

        Raises:
            InputError: for a layer the tower has not, for a prompt without an image, and for training.
            ModelError: for a model whose tower, projector or image tokens this does not fit.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        tower = _Zipping(self, anatomy)

        def choose(prompt: TokenLayout) -> Bool[Tensor, "batch positions"]:
            image = prompt.mask(Modality.IMAGE)
            if not bool(image.any()):
                raise InputError(f"{self.name} drops image tokens, and this prompt has none: give an image.")
            return tower.spread(image)

        with Hooks(anatomy) as hooks:
            hooks.before(tower.projector, tower.merge)
            shortener = PromptPruning(self.name, anatomy, choose)
            with tower.watching(), attach(anatomy, shortener=shortener, layout=source):
                yield

    def split(
        self, scores: Float[Tensor, " patches"]
    ) -> tuple[Int[Tensor, " dominant"], Int[Tensor, " targets"], Int[Tensor, " others"]]:
        """The patches of one picture: dominant, targets, and those that are merged into targets."""
        count = kept_count(len(scores), self.keep)
        merged = min(self.merged, count - 1, len(scores) - count + min(self.merged, count - 1))
        dominant = scores.topk(count - merged).indices
        rest = torch.ones(len(scores), dtype=torch.bool).index_fill_(0, dominant.cpu(), False).nonzero()[:, 0]
        step = max(1, len(rest) // max(1, merged))
        is_target = torch.zeros(len(rest), dtype=torch.bool)
        is_target[torch.arange(merged) * step] = True
        return dominant.cpu(), rest[is_target], rest[~is_target]


class _Zipping(TowerChoice):
    """Sees the tower, merges before the projector, and says which tokens stay."""

    def __init__(self, method: VisionZip, anatomy: Anatomy) -> None:
        super().__init__(method.name, anatomy, method.layer, self._kept_of)
        if anatomy.projector is None:
            raise ModelError(f"{method.name} needs a projector between tower and text, and this model shows none.")
        self.projector: nn.Module = anatomy.projector
        self._method, self._kind = method, type(anatomy.model).__name__

    def merge(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before the projector: [pictures, patches, width], some patches richer by what is merged into them."""
        scores, keys = self.scores, self.keys
        given = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if given is None or given.dim() != 3 or [len(part) for part in scores] != [given.shape[1]] * len(given):
            raise ModelError(
                f"{self._method.name} needs a projector that is handed the patches of each picture, and that of "
                f"{self._kind} is not."
            )
        changed = given.clone()
        for picture, (mine, key) in enumerate(zip(scores, keys, strict=True)):
            _, targets, others = self._method.split(mine)
            if not len(targets) or not len(others):
                continue
            unit = torch.nn.functional.normalize(key.to(given.device), dim=-1)
            nearest = (unit[others] @ unit[targets].T).argmax(1)
            share = torch.nn.functional.one_hot(nearest, len(targets)).to(given.dtype)
            means = share.T @ given[picture, others] / share.sum(0).clamp_min(1)[:, None]
            changed[picture, targets] = given[picture, targets] + means

        def instead(value: Any) -> Any:
            return changed if value is given else value

        return tuple(map(instead, args)), {name: instead(value) for name, value in kwargs.items()}

    def _kept_of(self, scores: Float[Tensor, " patches"]) -> Bool[Tensor, " patches"]:
        dominant, targets, _ = self._method.split(scores)
        stays = torch.zeros(len(scores), dtype=torch.bool)
        stays[torch.cat([dominant, targets])] = True
        return stays
