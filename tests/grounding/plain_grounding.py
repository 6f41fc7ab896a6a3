"""The plain twin of grounding scores: recorded hidden states, loops over words and patches; nothing of `ground`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from families import IMAGE, TEXT, VIDEO
from sightline.models.anatomy import find_anatomy


def recorded(model: Any, inputs: dict[str, Tensor], layers: tuple[int, ...], **options: Any) -> Any:
    """(image features at all positions, by layer the states behind it, the output), each recorded by a hook."""
    anatomy = find_anatomy(model)
    embedded: list[Tensor] = []
    states: dict[int, Tensor] = {}

    def decoder(module: Any, args: Any, kwargs: Any) -> None:
        if kwargs.get("inputs_embeds") is not None:
            embedded.append(kwargs["inputs_embeds"])

    def first(module: Any, args: Any, kwargs: Any) -> None:
        embedded.append(args[0] if args else kwargs["hidden_states"])

    def behind(layer: int) -> Any:
        def keep(module: Any, args: Any, output: Any) -> None:
            states[layer] = output if isinstance(output, Tensor) else output[0]

        return keep

    handles = [
        anatomy.decoder.register_forward_pre_hook(decoder, with_kwargs=True),
        anatomy.layers[0].register_forward_pre_hook(first, with_kwargs=True),
        *(anatomy.layers[layer].register_forward_hook(behind(layer)) for layer in layers),
    ]
    try:
        output = model(**inputs, **options)
    finally:
        for handle in handles:
            handle.remove()
    return embedded[0], states, output


def cosines(word: Tensor, patches: Tensor) -> Tensor:
    word, patches = word.double(), patches.double()
    return (patches * word).sum(-1) / (word.norm() * patches.norm(dim=-1))


def plain_scores(
    features: Tensor,
    states: dict[int, Tensor],
    modality: list[list[int]],
    attentions: dict[int, Tensor] | None = None,
    top: int = 1,
) -> tuple[Tensor, Tensor]:
    """[layers, batch, positions] and the patch of each word, [batch, positions], -1 where there is none.

    attentions: by layer [batch, heads, queries, keys]; scores are then weighted by their mean over heads.
    """
    kinds = torch.tensor(modality)
    scores = torch.zeros((len(states), *kinds.shape), dtype=torch.float64)
    patches = torch.full(kinds.shape, -1)
    for sample, row in enumerate(modality):
        image = [position for position, kind in enumerate(row) if kind in (IMAGE, VIDEO)]
        for word in (position for position, kind in enumerate(row) if kind == TEXT and image):
            total = torch.zeros(len(image), dtype=torch.float64)
            for number, layer in enumerate(sorted(states)):
                near = cosines(states[layer][sample, word], features[sample, image])
                if attentions is None:
                    scores[number, sample, word] = near.sort(descending=True).values[:top].mean()
                else:
                    near = near * attentions[layer][sample].mean(0)[word, image]
                    scores[number, sample, word] = near.sum()
                total = total + near.detach()
            patches[sample, word] = image[int(total.argmax())]
    return scores, patches
