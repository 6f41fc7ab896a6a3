"""What grounding can learn beside the model: a linear map of the words, or a judge of words and what they look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.probes.grounding.image import unit_length
from sightline.probes.grounding.saved import read_saved, read_weights, save_part

NAME = "grounding_head"
WHAT = "grounding head"


class GroundingHead(nn.Module):
    """The learned part of `Grounding`, one of its own for each layer.

    projection="linear": W_l, [hidden, hidden], the identity at the start. kind="learned": an MLP on the word's hidden
    state and the image features it attends to, each brought to a root mean square of 1, since their scales differ by
    layer and model; its width is `width`, and its output goes through tanh, so that scores lie between -1 and 1 as
    cosines do. Parameters are float32, and so is what it computes.
    """

    def __init__(
        self, layers: Sequence[int], hidden_size: int, kind: str, projection: str = "none", width: int | None = None
    ) -> None:
        super().__init__()
        if kind != "learned" and projection != "linear":
            raise InputError(f"Grounding of kind {kind} without a projection learns nothing: it needs no head.")
        self.layers, self.hidden_size = tuple(layers), hidden_size
        self.kind, self.projection = kind, projection
        self.width = width or max(8, hidden_size // 4)
        self.projections = nn.ModuleList()
        self.judges = nn.ModuleList()
        for _ in self.layers:
            if kind == "learned":
                self.judges.append(
                    nn.Sequential(nn.Linear(2 * hidden_size, self.width), nn.GELU(), nn.Linear(self.width, 1))
                )
            else:
                linear = nn.Linear(hidden_size, hidden_size, bias=False)
                nn.init.eye_(linear.weight)
                self.projections.append(linear)

    def project(self, number: int, words: Float[Tensor, "words hidden"]) -> Float[Tensor, "words hidden"]:
        """The words in the space of the image features; number: which of the layers."""
        return self.projections[number](words)  # type: ignore[no-any-return]

    def judge(
        self, number: int, words: Float[Tensor, "words hidden"], attended: Float[Tensor, "words hidden"]
    ) -> Float[Tensor, " words"]:
        """The score of words, given what of the image they attend to."""
        both = torch.cat([even(words), even(attended)], -1)
        return torch.tanh(self.judges[number](both)[..., 0])

    def require_fit(self, kind: str, projection: str, layers: Sequence[int], hidden_size: int) -> None:
        """InputError when the head was made for other settings or another model."""
        if (self.kind, self.projection) != (kind, projection):
            raise InputError(
                f"The grounding head is of kind={self.kind}, projection={self.projection}, and kind={kind}, "
                f"projection={projection} is asked for: use the settings it was trained with."
            )
        if self.layers != tuple(layers):
            raise InputError(
                f"The grounding head has layers {_plus(self.layers)} and {_plus(layers)} are asked for: use the "
                "settings it was trained with."
            )
        if self.hidden_size != hidden_size:
            raise InputError(
                f"The grounding head is of hidden size {self.hidden_size} and the model of {hidden_size}: use the head "
                "that was trained with this model."
            )

    def save(self, folder: str | Path) -> None:
        """Write grounding_head.safetensors and grounding_head.json into a folder, as beside the model."""
        settings = {
            "layers": list(self.layers),
            "hidden_size": self.hidden_size,
            "kind": self.kind,
            "projection": self.projection,
            "width": self.width,
        }
        save_part(self, settings, folder, NAME)

    @classmethod
    def load(cls, folder: str | Path) -> GroundingHead:
        """The head that lies in a folder.

        Raises:
            InputError: where there is none, or its files are torn or do not fit together.
        """
        settings: dict[str, Any] = read_saved(folder, NAME, WHAT)
        try:
            head = cls(**settings)
        except TypeError:
            raise InputError(f"{Path(folder) / NAME}.json holds no settings of a {WHAT}: save one anew.") from None
        read_weights(head, folder, NAME, WHAT)
        return head


def even(values: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
    """At a root mean square of 1; a row of zeros stays one."""
    scale: float = values.shape[-1] ** 0.5
    return unit_length(values) * scale


def _plus(layers: Sequence[int]) -> str:
    return "+".join(map(str, layers))
