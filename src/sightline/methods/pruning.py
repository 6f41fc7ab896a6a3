"""Methods that let fewer image tokens go on: before the language model, by their features, or between its layers.

`keep` is a share up to 1, or a number of tokens above it, of all image tokens of a sample. What is dropped is gone: it
is not computed, not cached and not attended to, and the token layout that probes are shown follows.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention import ForwardPass, attach
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, SightlineWarning
from sightline.methods.base import Method, anatomy_and_layout, setting
from sightline.methods.dropping import Keep, LayerPruning
from sightline.methods.scoring import VISUAL, entering, require_image
from sightline.methods.shorten import PromptPruning
from sightline.methods.stages import Recycle, StagePruning
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout

_NAMED = 8
"""So many of the highest scores distinguish images; more would be closer to each other than rounding is."""


def kept_count(tokens: int, keep: float) -> int:
    """How many of the image tokens stay: at least one, at most all."""
    return max(1, min(tokens, round(tokens * keep if keep <= 1 else keep)))


def check_keep(name: str, *keep: float) -> None:
    """InputError for what is neither a share nor a number of tokens."""
    for value in keep:
        if not 0 < value < inf or (value > 1 and value != round(value)):
            raise InputError(f"keep is {value} in {name}: give a share up to 1, or a whole number of tokens.")


def warn_of_all(name: str, tokens: int, *keep: float) -> None:
    """Say that numbers of tokens to keep, of which the last counts most, leave all that there are."""
    if keep and min(keep) > 1 and min(keep) >= tokens:
        warnings.warn(
            f"{name} changes nothing: it keeps {min(keep):g} image tokens, and there are {tokens}: give fewer.",
            SightlineWarning,
            stacklevel=2,
        )


@dataclass(frozen=True)
class PruningMethod(Method):
    """Base of methods that choose image tokens by the features that enter the language model: `pick` is the rule."""

    keep: float = setting(1.0, "image tokens kept: a share up to 1, or a number above it")

    def __post_init__(self) -> None:
        check_keep(self.name, self.keep)

    def pick(
        self, image: Float[Tensor, "tokens hidden"], text: Float[Tensor, "words hidden"], count: int
    ) -> Int[Tensor, " kept"]:
        """Which `count` of one sample's image tokens stay. text: the embeddings of its words behind the image."""
        raise NotImplementedError

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside.

        Raises:
            InputError: for a prompt without an image, and for training.
            ModelError: for a model whose prompt can't be shortened.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        if self.keep == 1:
            yield
            return
        with attach(anatomy, shortener=_FeaturePruning(self, anatomy), layout=source):
            yield


class _FeaturePruning(PromptPruning):
    """The shortener of one `with`."""

    def __init__(self, method: PruningMethod, anatomy: Anatomy) -> None:
        super().__init__(method.name, anatomy, self._chosen)
        self._method = method
        self._features = torch.zeros(0)

    def at_decoder(self, step: ForwardPass, inputs: dict[str, Any]) -> tuple[ForwardPass, dict[str, Any]]:
        """Image features are in place as the decoder is entered."""
        if step.is_start:
            require_image(self._name, step.layout)
            self._features = entering(self._name, self._anatomy, inputs).detach()
        try:
            return super().at_decoder(step, inputs)
        finally:
            self._features = torch.zeros(0)

    def _chosen(self, layout: TokenLayout) -> Bool[Tensor, "batch positions"]:
        for tokens in layout.mask(*VISUAL).sum(1).tolist():
            warn_of_all(self._name, tokens, self._method.keep)
        return kept_by_features(self._method.pick, self._method.keep, layout, self._features)


def kept_by_features(
    pick: Callable[[Tensor, Tensor, int], Tensor],
    keep: float,
    layout: TokenLayout,
    features: Float[Tensor, "batch positions hidden"],
) -> Bool[Tensor, "batch positions"]:
    """All positions but the image tokens that `pick` leaves out."""
    visual = layout.mask(*VISUAL)
    stays = ~visual
    behind = words_behind(layout)
    for sample, image in enumerate(visual):
        places = image.nonzero()[:, 0]
        if not len(places):
            continue
        count = kept_count(len(places), keep)
        mine = features[sample].float()
        chosen = pick(mine[places.to(mine.device)], mine[behind[sample].to(mine.device)], count)
        stays[sample, places[_in_range(chosen, len(places))]] = True
    return stays


def _in_range(chosen: Any, tokens: int) -> Tensor:
    """Which tokens a rule picks, on the CPU; InputError for one that is not there."""
    places = torch.as_tensor(chosen).cpu()
    if places.dtype.is_floating_point or bool(((places < 0) | (places >= tokens)).any()):
        raise InputError(
            f"A rule picks image tokens {places.tolist()[:8]} of {tokens}: pick gives places from 0 to {tokens - 1}."
        )
    return places


def words_behind(layout: TokenLayout) -> Bool[Tensor, "batch positions"]:
    """The words behind each sample's last image token."""
    visual = layout.mask(*VISUAL)
    index = torch.arange(layout.length)
    last = torch.where(visual, index, -1).amax(1, keepdim=True)
    return (index > last) & (layout.modality == int(Modality.TEXT))


@dataclass(frozen=True)
class StagedPruning(Method):
    """Base of methods that drop image tokens between layers: `stages` says before which layers, by which rule."""

    def stages(self, anatomy: Anatomy) -> Mapping[int, Keep]:
        """For each first layer that runs on fewer tokens, the rule for one sample."""
        raise NotImplementedError

    def dropping(self, anatomy: Anatomy) -> LayerPruning:
        """Who drops, for one `with`: by default what stays keeps its place."""
        return LayerPruning(self.name, anatomy, self.stages(anatomy), self.raters)

    def raters(self, layout: TokenLayout, features: Tensor) -> Bool[Tensor, "batch positions"] | None:
        """The rows whose attention counts; by default the prompt's last. features: what enters the first layer."""
        return None

    @property
    def is_idle(self) -> bool:
        """Whether these settings drop nothing."""
        return False

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside.

        Raises:
            InputError: for a layer the model has not, for a prompt without an image, for training, and for a second
                method that drops tokens between layers.
            ModelError: for a model whose layers from there on do not all attend to all positions.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        dropping = self.dropping(anatomy)
        if self.is_idle:
            yield
            return
        with ExitStack() as stack:
            hooks = stack.enter_context(Hooks(anatomy))
            hooks.before(anatomy.layers[0], dropping.note_features)
            stack.enter_context(attach(anatomy, dropper=dropping, layout=source))
            stack.enter_context(dropping.hooked())
            yield


@dataclass(frozen=True)
class StagedShares(StagedPruning):
    """Base of those that keep a share from each of several layers on: by default a paper's, scaled to another depth."""

    paper_layers: ClassVar[tuple[int, ...]] = ()
    """First layers on fewer tokens in the public code's model, which has `paper_depth`."""

    paper_depth: ClassVar[int] = 32

    layers: tuple[int, ...] | None = None
    keep: tuple[float, ...] = ()
    random: bool = setting(False, "a control: as many random tokens of those that are left")
    seed: int = setting(0, "of the draw of random tokens")

    def __post_init__(self) -> None:
        check_keep(self.name, *self.keep)
        if self.layers is not None and len(self.layers) != len(self.keep):
            raise InputError(
                f"{self.name} has {len(self.layers)} layers and {len(self.keep)} shares to keep: give as many of both."
            )
        if self.layers is not None and list(self.layers) != sorted(set(self.layers)):
            raise InputError(f"The layers of {self.name} are {self.layers}: give them in order, each once.")
        for unit in ([share for share in self.keep if share <= 1], [count for count in self.keep if count > 1]):
            if unit != sorted(unit, reverse=True):
                raise InputError(f"keep is {self.keep} in {self.name}: give fewer tokens from layer to layer.")

    def stages(self, anatomy: Anatomy) -> Mapping[int, Keep]:
        """The last share for layers that fall together."""
        depth = len(anatomy.layers)
        scaled = (round(layer * depth / self.paper_depth) for layer in self.paper_layers)
        layers = self.layers or tuple(max(1, min(depth - 1, layer)) for layer in scaled)
        return dict(zip(layers, (partial(self.keep_share, share) for share in self.keep), strict=False))

    def dropping(self, anatomy: Anatomy) -> LayerPruning:
        """What stays stands at positions counted anew."""
        return StagePruning(self.name, anatomy, self.stages(anatomy), self.raters, self.ranks_ahead, self.recycler())

    @property
    def ranks_ahead(self) -> bool:
        """Whether a stage ranks by the attention that its own first layer would have."""
        return False

    def recycler(self) -> Recycle | None:
        """What of the dropped goes on as new tokens; None for nothing."""
        return None

    def count(self, share: float, total: int) -> int:
        """How many of a sample's tokens stay."""
        return kept_count(total, share)

    def keep_share(self, share: float, scores: Tensor, image: Tensor, total: int) -> Tensor:
        """[positions], bool: which positions of one sample stay; image: [positions], those that are left."""
        count = self.count(share, total)
        warn_of_all(self.name, total, *self.keep)
        if not self.random:
            return best_tokens(scores, image, count)
        stays, places = ~image, image.nonzero()[:, 0]
        stays[places[random_order(self.seed, scores[places])[:count]]] = True
        return stays


def best_tokens(scores: Float[Tensor, " positions"], image: Bool[Tensor, " positions"], count: int) -> Tensor:
    """[positions], bool: all positions but the image tokens of the lowest scores; ties go to the first."""
    places = image.nonzero()[:, 0]
    order = scores[places].argsort(descending=True, stable=True)
    stays = ~image
    stays[places[order[:count]]] = True
    return stays


def random_order(seed: int, scores: Float[Tensor, " tokens"]) -> Int[Tensor, " tokens"]:
    """The tokens in a random order, the same for the same image: it hangs on which score highest, in order."""
    first = scores.cpu().topk(min(_NAMED, len(scores))).indices.tolist()
    source = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{len(scores)}/{first}".encode()))
    return torch.randperm(len(scores), generator=source)
