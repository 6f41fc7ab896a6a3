"""Steering by directions found in pairs: hidden states turned towards one meaning and away from another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.artifacts import direction_for, direction_source
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.directions import Direction, parts_of
from sightline.methods.generating import check_least
from sightline.methods.hidden import changed_outputs
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class Steer(Method):
    """Turns what each layer's feed-forward part puts out towards a direction, at its own length.

        x <- |x| normalize(x/|x| + strength d_l/|d_l|)

    x: [batch, positions, hidden], at every position, in the prompt and while decoding; d_l: of layer l, found by
    `sl.find_direction`, as it is or saved. A direction of the vision tower (part tower) turns the tower's layers in the
    place of the decoder's. It acts on all that runs inside. strength = 0 changes nothing; below 0 it turns away.
    Control: `random` = true, as strong a turn towards a random direction.
    """

    name: ClassVar[str] = "steer"
    direction: str | Any | None = setting(None, "file of the direction, as `find_direction(...).save(FILE)` writes it")
    strength: float = setting(0.1, "how strong the turn is; 0 is none, below 0 is away")
    layers: tuple[int, ...] | None = setting(None, "only these layers, as 2+3+4; by default all")
    random: bool = setting(False, "a control: random directions")
    seed: int = setting(0, "of random directions")

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", direction_source(self.name, "direction", self.direction))

    def require_complete(self) -> None:
        """InputError without a direction."""
        if self.direction is None:
            raise InputError(f"{self.name} needs a direction: give the field direction, a file of `find_direction`.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside.

        Raises:
            InputError: without a direction, for one of another model, and for a layer the model has not.
            ModelError: for a model whose feed-forward parts are not found.
        """
        anatomy, _ = anatomy_and_layout(model, layout)
        self.require_complete()
        found = direction_for(self.name, "direction", self.direction or "", anatomy)
        with turned(self.name, anatomy, found, self.strength, self.layers, self.random, self.seed):
            yield


@register
@dataclass(frozen=True)
class VTI(Method):
    """Steers the decoder and the vision tower at once (arXiv 2410.15778; confirmed in its public code).

        decoder:  x <- |x| normalize(x/|x| + 0.1 alpha d_l/|d_l|)       d: true minus hallucinated captions, pca
        tower:    x <- |x| normalize(x/|x| + 0.1 beta d_l/|d_l|)        d: masked pictures minus pictures, pca

    x: [batch, positions, hidden], what each feed-forward part puts out. Both directions are files of `find_direction`
    (part text, and part tower, kind pca), or what it found; either may be left out. The public code finds the first in
    70 pairs of captions behind their pictures, and the second in the mean of 50 copies of each picture with 99% of the
    patches at the picture's mean, less the picture: for each patch (`each_patch`), or one for all patches.
    Control: `random` = true.
    """

    name: ClassVar[str] = "vti"
    text: str | Any | None = setting(None, "file of the decoder's direction")
    vision: str | Any | None = setting(None, "file of the vision tower's direction")
    alpha: float = setting(0.9, "strength in the decoder, in tenths, 0 (none) or more")
    beta: float = setting(0.9, "strength in the vision tower, in tenths, 0 (none) or more")
    random: bool = setting(False, "a control: random directions")
    seed: int = setting(0, "of random directions")

    def __post_init__(self) -> None:
        check_least(self.name, 0, alpha=self.alpha, beta=self.beta)
        for field in ("text", "vision"):
            object.__setattr__(self, field, direction_source(self.name, field, getattr(self, field)))

    def require_complete(self) -> None:
        """InputError without any direction."""
        if self.text is None and self.vision is None:
            raise InputError("vti needs a direction: give the fields text and vision, files of `find_direction`.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside; errors as of `Steer`."""
        anatomy, _ = anatomy_and_layout(model, layout)
        self.require_complete()
        with ExitStack() as stack:
            for field, part, strength in (("text", "text", self.alpha), ("vision", "tower", self.beta)):
                source = getattr(self, field)
                if source is not None:
                    found = direction_for(self.name, field, source, anatomy, part)
                    act = turned(self.name, anatomy, found, 0.1 * strength, None, self.random, self.seed)
                    stack.enter_context(act)
            yield


@contextmanager
def turned(
    name: str,
    anatomy: Anatomy,
    direction: Direction,
    strength: float,
    layers: tuple[int, ...] | None,
    random: bool,
    seed: int,
) -> Iterator[None]:
    """Inside, the feed-forward parts of a direction's layers put out what is turned towards it."""
    parts = parts_of(name, anatomy, direction.part)
    for layer in layers or ():
        if not 0 <= layer < len(parts):
            raise InputError(f"Layer {layer} is out of range in {name}: there are layers 0 to {len(parts) - 1}.")
    values = direction.values
    if random:
        values = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
    unit = torch.nn.functional.normalize(values, dim=-1)

    def turn(layer: int, x: Float[Tensor, "batch positions hidden"]) -> Tensor:
        if unit.dim() == 3 and unit.shape[1] != x.shape[-2]:
            raise InputError(
                f"The direction of {name} is of {unit.shape[1]} patches, and this picture has {x.shape[-2]}: "
                "find it without each_patch, or in pictures of this size."
            )
        size: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        towards = x / size.clamp_min(1e-12) + strength * unit[layer].to(x)
        return size * torch.nn.functional.normalize(towards, dim=-1)

    chosen = {layer: part for layer, (_, part) in enumerate(parts) if layers is None or layer in layers}
    if not strength:
        yield
        return
    with changed_outputs(anatomy, chosen, turn):
        yield
