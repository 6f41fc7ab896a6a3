"""VisionZip: the most attended patches stay, the others are merged into a few (arXiv 2412.04467, CVPR 2025)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from sightline.methods.pruning import check_keep, kept_count, warn_of_all
from sightline.methods.shorten import Choose, PromptPruning, TokenSelection
from sightline.methods.tower import TowerChoice
from sightline.models.anatomy import Anatomy
from sightline.models.anatomy.vision_layers import image_tower, tower_layers
from sightline.models.layout import Modality, TokenLayout


@register
@dataclass(frozen=True)
class VisionZip(Method):
    """Keeps the patches that the vision tower attends to, and merges the rest into some of them.

        dominant:   the class token, and the keep - merged - 1 patches of the largest a[CLS, j], heads averaged, in the
                    tower's layer `layer`
        targets:    `merged` of the others, every floor(others / merged)-th from the first on
        x_target <- x_target + mean of the patches whose most alike target this is
        all else is dropped

    x: [patches, width], what the tower hands to the projector; alike: by the cosine of the patches' keys in that layer,
    averaged over heads. Order: the class token, dominant patches as in the image, targets. The class token stands in
    the place of a dropped patch, and maps show nothing there. `class_token` = false, a tower without one, one that
    already hands it on, and a model that packs tiles (LLaVA-NeXT) have one dominant patch more in its stead. Without
    a class token in the tower patches are scored by the attention they receive on average. Where tiles are packed, what
    is kept stands in the order of the image, and newlines stay.

    The paper keeps 54 + 10 of 576, 108 + 20 and 162 + 30. It fits models in which each patch of a picture becomes one
    token: others are refused. Controls: `merged` = 0, and `prune_random`; with both `merged` = 0 and `class_token` =
    false it is `fastervlm`.
    """

    name: ClassVar[str] = "visionzip"
    keep: float = setting(64.0, "tokens kept of each picture: a share up to 1, or a number above it")
    merged: int = setting(10, "of these, how many are merged from all that is not dominant, 0 or more")
    layer: int = setting(-2, "layer of the vision tower that tells; -1 is its last")
    class_token: bool = setting(True, "whether the tower's class token is one of those kept")

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
        tower.warn_without_class()

        def choose(prompt: TokenLayout) -> Bool[Tensor, "batch positions"]:
            image = prompt.mask(Modality.IMAGE)
            if not bool(image.any()):
                raise InputError(f"{self.name} drops image tokens, and this prompt has none: give an image.")
            return tower.spread(image)

        with Hooks(anatomy) as hooks:
            hooks.before(tower.projector, tower.merge)
            for block in tower.blocks:
                hooks.after(block, tower.note)
            shortener = _InOrder(tower, anatomy, choose)
            with tower.watching(), attach(anatomy, shortener=shortener, layout=source):
                yield

    def split(self, scores: Float[Tensor, " patches"], has_class: bool = False) -> Zipped:
        """What becomes of the patches of one picture. has_class: whether a class token is among what is kept."""
        patches = len(scores)
        warn_of_all(self.name, patches, self.keep)
        count = kept_count(patches, self.keep)
        one = int(has_class and count < patches)
        merged = max(0, min(self.merged, count - 1 - one, patches - 1))
        dominant = scores.topk(count - merged - one).indices.cpu().sort().values
        rest = torch.ones(patches, dtype=torch.bool).index_fill_(0, dominant, False).nonzero()[:, 0]
        step = max(1, len(rest) // max(1, merged))
        is_target = torch.zeros(len(rest), dtype=torch.bool)
        is_target[torch.arange(min(merged, len(rest))) * step] = True
        others = rest[~is_target]
        return Zipped(patches, others[:one], dominant, rest[is_target], others)


@dataclass(frozen=True)
class Zipped:
    """What becomes of a picture's patches, by their numbers.

    Attributes:
        patches: how many there are.
        class_place: the one dropped in whose place the class token stands; none or one.
        dominant: those that stay as they are.
        targets: those that stay, richer by what is merged into them.
        others: those that are merged into targets; the class token's place is one of them.
    """

    patches: int
    class_place: Int[Tensor, " class"]
    dominant: Int[Tensor, " dominant"]
    targets: Int[Tensor, " targets"]
    others: Int[Tensor, " others"]

    @property
    def stays(self) -> Bool[Tensor, " patches"]:
        """Whose places are kept."""
        kept = torch.cat([self.class_place, self.dominant, self.targets])
        return torch.zeros(self.patches, dtype=torch.bool).index_fill_(0, kept, True)


class _Zipping(TowerChoice):
    """Sees the tower, merges before the projector, and says which tokens stay."""

    def __init__(self, method: VisionZip, anatomy: Anatomy) -> None:
        super().__init__(method.name, anatomy, method.layer, self._kept_of)
        if anatomy.projector is None:
            raise ModelError(f"{method.name} needs a projector between tower and text, and this model shows none.")
        self.projector: nn.Module = anatomy.projector
        self._method, self._kind = method, type(anatomy.model).__name__
        tower = image_tower(anatomy)
        self.blocks = tuple(block for block, _ in tower_layers(tower)) if tower is not None else ()
        self.is_packed = any(hasattr(part, "pack_image_features") for part in anatomy.model.modules())
        self._wants_class = method.class_token and self.is_class_first and not self.is_packed
        self._states: list[Tensor] = []
        self._zipped: list[Zipped] = []
        self._has_class = False

    def note(self, module: nn.Module, args: Any, output: Any) -> None:
        """Behind a layer of the tower, whose states hold the class token that the projector is not handed."""
        if self._wants_class:
            self._states.append(output if isinstance(output, Tensor) else output[0])

    def merge(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before the projector: [pictures, patches, width], some patches richer by what is merged into them."""
        scores, keys = self.scores, self.keys
        given = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if given is None or given.dim() != 3 or [len(part) for part in scores] != [given.shape[1]] * len(given):
            raise ModelError(
                f"{self._method.name} needs a projector that is handed the patches of each picture, and that of "
                f"{self._kind} is not."
            )
        changed, tokens = given.clone(), self._class_tokens(given)
        self._has_class, self._zipped = tokens is not None, []
        for picture, (mine, key) in enumerate(zip(scores, keys, strict=True)):
            zipped = self._method.split(mine, self._has_class)
            if len(zipped.targets) and len(zipped.others):
                changed[picture, zipped.targets] = merged_into(given[picture], key.to(given.device), zipped)
            if tokens is not None and len(zipped.class_place):
                changed[picture, zipped.class_place] = tokens[picture]

        def instead(value: Any) -> Any:
            return changed if value is given else value

        return tuple(map(instead, args)), {name: instead(value) for name, value in kwargs.items()}

    def in_order(self, kept: TokenSelection, image: Bool[Tensor, "batch positions"]) -> TokenSelection:
        """What stays of each picture: its class token, dominant patches, targets."""
        key = torch.arange(image.shape[1], dtype=torch.float64).expand(image.shape).clone()
        foreign = torch.zeros_like(image)
        copies = int(image.sum()) // max(1, sum(zipped.patches for zipped in self._zipped))
        pictures = iter(self._zipped)
        for sample in range(0, len(image), max(1, copies)):
            rows, start = slice(sample, sample + copies), 0
            places = image[sample].nonzero()[:, 0]
            while start < len(places):
                zipped = next(pictures)
                mine = places[start : start + zipped.patches]
                count = len(zipped.targets)
                key[rows, mine[zipped.class_place]] = float(mine[0]) - 0.5
                key[rows, mine[zipped.targets]] = float(mine[-1]) + torch.linspace(0.1, 0.9, count, dtype=key.dtype)
                foreign[rows, mine[zipped.class_place]] = True
                start += zipped.patches
        return replace(kept.ordered(key), foreign=foreign)

    def _class_tokens(self, given: Float[Tensor, "pictures patches width"]) -> Tensor | None:
        """[pictures, width]: the class tokens of the states that the projector is handed the patches of."""
        found, states = [], [state for state in reversed(self._states) if state.shape[:1] == given.shape[:1]]
        self._states = []
        for part in torch.split(given, states[0].shape[-1], -1) if states else ():  # some models hand on several layers
            whole = next((state for state in states if torch.equal(state[:, 1:], part)), None)
            if whole is None:
                return None
            found.append(whole[:, 0])
        return torch.cat(found, -1) if found else None

    def _kept_of(self, scores: Float[Tensor, " patches"]) -> Bool[Tensor, " patches"]:
        self._zipped.append(self._method.split(scores, self._has_class))
        return self._zipped[-1].stays

    def _begin(self, *given: Any) -> None:
        super()._begin(*given)
        self._states, self._zipped, self._has_class = [], [], False


class _InOrder(PromptPruning):
    """Lets what stays of each picture run in the method's own order."""

    def __init__(self, tower: _Zipping, anatomy: Anatomy, choose: Choose) -> None:
        super().__init__(VisionZip.name, anatomy, choose, needs_whole=True)
        self._tower = tower

    def planned(self, layout: TokenLayout) -> TokenSelection | None:
        """What of a prompt is run."""
        kept = super().planned(layout)
        if kept is None or self._tower.is_packed:
            return kept
        return self._tower.in_order(kept, layout.mask(Modality.IMAGE))


def merged_into(
    x: Float[Tensor, "patches width"], keys: Float[Tensor, "patches head_dim"], zipped: Zipped
) -> Float[Tensor, "targets width"]:
    """The targets with the means of what is merged into each."""
    unit = torch.nn.functional.normalize(keys, dim=-1)
    nearest = (unit[zipped.others] @ unit[zipped.targets].T).argmax(1)
    share = torch.nn.functional.one_hot(nearest, len(zipped.targets)).to(x.dtype)
    means = share.T @ x[zipped.others] / share.sum(0).clamp_min(1)[:, None]
    return x[zipped.targets] + means
