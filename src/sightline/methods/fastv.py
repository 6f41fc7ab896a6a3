"""FastV: drop the image tokens that are little attended to after a few layers (arXiv 2403.06764; confirmed)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sightline.attention import attach
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.dropping import LayerPruning


@register
@dataclass(frozen=True)
class FastV(Method):
    """Runs layers K and up on a prompt that has lost the share R of its image tokens.

        score_j = mean over heads of a[last, j] in layer K - 1      last: the prompt's last token; j: image
        dropped before layer K: the round(N R) image tokens of the lowest score

    a: attention weights as the model uses them. N: all image tokens of a sample. The dropped tokens are not masked but
    gone: layers K and up compute, cache and attend to the others alone, at the positions these had in the prompt, and
    so does every decoding step. Layers are counted from 0. The choice is made once, on the prompt.

    A probe goes on seeing the whole prompt, with weight 0 on what is dropped. Between layers and in the output of a
    plain forward pass a dropped position keeps the hidden state with which it came to layer K.
    """

    name: ClassVar[str] = "fastv"
    K: int = setting(2, "first layer that runs on fewer tokens, 1 to the model's last")
    R: float = setting(0.5, "share of the image tokens dropped, 0 (none) to 1 (all)")

    def __post_init__(self) -> None:
        if not 0 <= self.R <= 1:
            raise InputError(f"R is {self.R} in fastv: give a share from 0 to 1.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside.

        Raises:
            InputError: for a layer the model has not, for a prompt without an image, for training, and for a second
                method that drops tokens between layers.
            ModelError: for a model whose layers from K on do not all attend to all positions.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        dropping = LayerPruning(self.name, anatomy, self.K, self.keep)
        if not self.R:
            yield
            return
        with ExitStack() as stack:
            stack.enter_context(attach(anatomy, dropper=dropping, layout=source))
            stack.enter_context(dropping.hooked())
            yield

    def keep(self, scores: Tensor, image: Tensor) -> Tensor:
        """[positions], bool: which positions of one sample stay. scores: [positions]; image: [positions], bool."""
        places = image.nonzero()[:, 0]
        count = round(len(places) * (1 - self.R))
        stays = ~image
        stays[places[scores[places].topk(count).indices]] = True
        return stays
