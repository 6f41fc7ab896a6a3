"""The logit lens on image tokens: how sure is each patch, in each layer, of a word (arXiv 2410.02762, 2410.07149).

c_lj(y) = softmax(W_U norm(h_lj))[y]            h_lj: [hidden], behind layer l, at image token j
internal confidence of y = max over layers l and image tokens j of c_lj(y)

The first paper, whose internal confidence it is, leaves the norm out, and its public code looks among the 50 likeliest
words alone: `raw` = true. The second one norms, as is usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention.alone import alone
from sightline.attention.hooks import Hooks
from sightline.errors import InputError
from sightline.methods.base import anatomy_and_layout
from sightline.methods.hidden import check_unembedding, unembed
from sightline.methods.scoring import VISUAL, prompt_layout
from sightline.models.anatomy import Anatomy
from sightline.models.logits import plain_pass
from sightline.models.word_tokens import require_tokens, token_of, word_list

AT_ONCE = 64
"""Positions whose logits over the vocabulary are held at a time."""

LIKELIEST = 50
"""Words among which the raw lens finds its probabilities; all others have 0."""


def require_grid(picture: int, grids: Sequence[Any]) -> None:
    """InputError for the number of a picture, crop or frame whose patches are not known to lie in rows and columns."""
    if not grids:
        raise InputError(
            "The image tokens of this prompt have no rows and columns (a resampler's queries have none), so there is "
            "no map: read their values by position."
        )
    if not 0 <= picture < len(grids):
        raise InputError(f"There is no picture {picture} with a grid of patches: the prompt has {len(grids)}.")


@dataclass(frozen=True)
class ImageLens:
    """How sure each image token is of each word.

    Attributes:
        confidence: [layers, image tokens, words], from behind the first layer to behind the last; of the raw lens what
            enters the first layer stands in front of them.
        positions: of the image tokens in the prompt.
        grids: of each picture (of one that is cut up, of each crop; of a video, of each frame), the places of its
            patches in `positions`, -1 where there is none; none at all where image tokens are a resampler's queries.
    """

    confidence: Float[Tensor, "layers tokens words"]
    positions: Int[Tensor, " tokens"]
    grids: tuple[Int[Tensor, "rows columns"], ...]

    def internal(self) -> Float[Tensor, " words"]:
        """The internal confidence of each word."""
        return self.confidence.amax((0, 1))

    def map(self, word: int = 0, picture: int = 0, layer: int | None = None) -> Float[Tensor, "rows columns"]:
        """A word's confidence over a picture, in one layer (from 0) or the largest of all; 0 where no patch is."""
        require_grid(picture, self.grids)
        mine = self.confidence[..., word]
        values = mine.amax(0) if layer is None else mine[layer]
        grid = self.grids[picture]
        return values[grid.clamp(min=0)] * (grid >= 0)


def image_lens(
    model: Any, inputs: Mapping[str, Any], words: str | int | Sequence[str | int], *, raw: bool = False
) -> ImageLens:
    """How sure the image tokens of one prompt are of some words.

    Args:
        model: a `VLM`, or a bare Transformers model.
        inputs: of the forward, one sample.
        words: one or several, each a word, of which the first token counts, or the id of a token (the first paper's
            code takes the largest of all of a word's tokens).
        raw: the first paper's form: softmax(W_U h) among the 50 likeliest words, the last layer's state normed.

    Raises:
        InputError: for a batch, a prompt without an image, words without a tokenizer, and those that it does not know.
        ModelError: for a model without an unembedding.
    """
    anatomy, source = anatomy_and_layout(model, None)
    layout = prompt_layout(anatomy, source, inputs)
    places = layout.mask(*VISUAL)[0].nonzero()[:, 0]
    if layout.batch != 1 or not len(places):
        raise InputError("image_lens takes one prompt with an image: give inputs of a batch of one.")
    tokens = [token_of(model, word) for word in word_list(words)]
    if not tokens:
        raise InputError("image_lens is given no word: give at least one, or the id of a token.")
    require_tokens("image_lens", anatomy, tokens)
    confidence = lens_at(anatomy, inputs, places.tolist(), tokens, raw)
    order = torch.full((layout.length + 1,), -1)
    order[places] = torch.arange(len(places))
    grids = tuple(order[grid.positions] for grid in layout.grids[0])
    return ImageLens(confidence, places, grids)


def lens_at(
    anatomy: Anatomy, inputs: Mapping[str, Any], positions: Sequence[int], tokens: Sequence[int], raw: bool = False
) -> Float[Tensor, "layers positions tokens"]:
    """How sure these positions of one prompt are of these tokens, behind each layer.

    Raises:
        ModelError: for a model without an unembedding, and one whose logits are not that of its last state.
    """
    places, ids = torch.tensor(list(positions)), torch.tensor(list(tokens))
    found: list[Tensor] = []
    last: list[Tensor] = []

    def keep(state: Tensor, norm: bool) -> None:
        parts = torch.split(state[0][places.to(state.device)], AT_ONCE)
        logits = [unembed(anatomy, part, norm) for part in parts]
        size = int(logits[0].shape[-1])
        for token in tokens:
            if not 0 <= token < size:
                raise InputError(f"There is no token {token} in a vocabulary of {size}.")
        shares = [(among_likeliest(each) if raw else each.softmax(-1))[:, ids.to(state.device)] for each in logits]
        found.append(torch.cat(shares).cpu())

    def enters(module: Any, args: Any, kwargs: Any) -> None:
        keep(args[0] if args else kwargs["hidden_states"], norm=False)

    def leaves(module: Any, args: Any, output: Any) -> None:
        state = output if isinstance(output, Tensor) else output[0]
        last[:] = [state[0, -1:]]
        keep(state, norm=module is anatomy.layers[-1] or not raw)

    with Hooks(anatomy, in_bypassed=True) as hooks, alone(anatomy, "image_lens"), torch.no_grad():
        if raw:
            hooks.before(anatomy.layers[0], enters)
        for layer in anatomy.layers:
            hooks.after(layer, leaves)
        output = plain_pass(anatomy.model, inputs)
    check_unembedding("The lens", anatomy, last[0], output.logits)
    return torch.stack(found)


def among_likeliest(logits: Float[Tensor, "*rows vocabulary"]) -> Float[Tensor, "*rows vocabulary"]:
    """Probabilities among the `LIKELIEST` words of each row, 0 for all others."""
    least = logits.topk(min(LIKELIEST, logits.shape[-1]), -1).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf).softmax(-1)
