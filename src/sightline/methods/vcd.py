"""VCD: visual contrastive decoding (arXiv 2311.16922; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import register, setting
from sightline.methods.contrast import ContrastMethod, contrast
from sightline.methods.second_pass import Change, image_inputs
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.cache import without_encoder_outputs

STEPS = 1000
"""Steps of the diffusion schedule."""


@register
@dataclass(frozen=True)
class VCD(ContrastMethod):
    """Contrasts with the answer to the same prompt about a noised image: what the noise leaves standing is prior.

        score(y) = (1 + alpha) log p(y | image) - alpha log p(y | noised image)
        score(y) = -inf where log p(y | image) < log(beta) + max log p

        noised = sqrt(abar_t) pixels + sqrt(1 - abar_t) noise,   abar_t = prod over s <= t of 1 - b_s
        b_s = 1e-5 + (5e-3 - 1e-5) sigmoid(-6 + 12 s / 999)

    pixels: the processor's normalised pixel values, in any shape the family has; noise: standard normal. It acts in
    `generate` alone. Meant for sampling at temperature 1: with greedy decoding its gains are reported to vanish. The
    second pass runs the untouched model. alpha = 0 changes nothing.
    """

    name: ClassVar[str] = "vcd"
    alpha: float = setting(1.0, "weight of the contrast, 0 (none) or more")
    beta: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")
    step: int = setting(500, "steps of diffusion noise put on the image, 0 to 999")
    seed: int = setting(0, "of the noise, which is the same at every prompt")

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < inf:
            raise InputError(f"alpha is {self.alpha} in vcd: give 0 or more.")
        if not 0 <= self.beta <= 1:
            raise InputError(f"beta is {self.beta} in vcd: give a share from 0 to 1.")
        if not 0 <= self.step < STEPS:
            raise InputError(f"step is {self.step} in vcd: give 0 to {STEPS - 1}.")

    @property
    def has_contrast(self) -> bool:
        """Whether the noised image counts."""
        return bool(self.alpha)

    def change(self, anatomy: Anatomy, model: Any, layout: LayoutSource | None, given: Mapping[str, Any]) -> Change:
        """The same prompt about a noised image."""
        return _Noised(self, anatomy, given)

    def combine(
        self, first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """The scores above."""
        return contrast(first, second, self.alpha, self.beta)


def add_noise(
    pixels: Float[Tensor, "*shape"], step: int, seed: int = 0, lengths: Sequence[int] | None = None
) -> Float[Tensor, "*shape"]:
    """The pixels after steps 0 to `step` of the schedule in `VCD`; tiles of zeros only fill a stack up and stay so.

    Every image has the noise it would have alone, whatever batch it is in. lengths: rows of each image, where the
    images stand packed behind each other.
    """
    rates = torch.linspace(-6, 6, STEPS, dtype=torch.float64).sigmoid() * (5e-3 - 1e-5) + 1e-5
    kept = float((1 - rates)[: step + 1].prod())
    noise = _noise(pixels.shape, seed, lengths).to(pixels.device)
    noised: Tensor = (kept**0.5 * pixels.float() + (1 - kept) ** 0.5 * noise).to(pixels.dtype)
    if pixels.dim() < 5:
        return noised
    is_filled = pixels.flatten(2).any(-1).reshape(*pixels.shape[:2], *[1] * (pixels.dim() - 2))
    return torch.where(is_filled, noised, pixels)


def _noise(shape: Sequence[int], seed: int, lengths: Sequence[int] | None) -> Tensor:
    """From a generator of our own for each image: the noise must not move the one that sampling draws from."""

    def drawn(*size: int) -> Tensor:
        return torch.randn(size, generator=torch.Generator().manual_seed(seed))

    if len(shape) >= 4:
        return drawn(*shape[1:])[None]
    if lengths is None or sum(lengths) != shape[0]:
        return drawn(*shape)
    return torch.cat([drawn(length, *shape[1:]) for length in lengths])


def _lengths(images: Mapping[str, Any], name: str) -> list[int] | None:
    """Rows of each image in packed pixels, from the grid that stands beside them."""
    grid = images.get("video_grid_thw" if "video" in name else "image_grid_thw")
    return grid.prod(-1).tolist() if isinstance(grid, Tensor) else None


class _Noised:
    """The change of the second pass: other pixels, all else alike."""

    def __init__(self, method: VCD, anatomy: Anatomy, given: Mapping[str, Any]) -> None:
        self._method, self._anatomy, self._given = method, anatomy, given
        if not any(_is_pixels(name, value) for name, value in given.items()):
            raise InputError("vcd puts noise on the image, and this prompt has none: give an image.")

    def at_start(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The prompt with noised pixels."""
        # Newer versions hand the tower's output to the forward instead of the pixels.
        rest = {name: value for name, value in without_encoder_outputs(inputs).items() if value is not None}
        rest = {name: value for name, value in rest.items() if not _is_pixels(name, value)}
        images = image_inputs(self._anatomy, self._given, rest)
        noised = {
            name: add_noise(value, self._method.step, self._method.seed, _lengths(self._given, name))
            if _is_pixels(name, value)
            else value
            for name, value in images.items()
        }
        return {**rest, **noised}

    def at_step(self, inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
        """A generated token stands where it does in the first pass."""
        return inputs


def _is_pixels(name: str, value: Any) -> bool:
    return "pixel_values" in name and isinstance(value, Tensor) and value.is_floating_point()
