"""What is true of tiny-prior: objects invented because of what stands beside them, and the heads that carry it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lessons import COMPANIONS
from measure import Answerer, Asked, points
from ship import Truth
from torch import Tensor
from verify import CELLS, VERIFY_SEED, entry, put

from sightline.zoo import questions as ask
from sightline.zoo.render import render
from sightline.zoo.world import KINDS, Kind, Scene, draw_scenes


def lonely_anchors(count: int, seed: int) -> tuple[list[Scene], list[Scene], list[Kind]]:
    """Scenes with an anchor and no companion; the same with another object in the anchor's place; the companions.

    The cell behind the anchor is empty: there the companion would stand.
    """
    alone, exchanged, companions = [], [], []
    anchors = list(COMPANIONS)
    for index, drawn in enumerate(draw_scenes(count, seed)):
        rng = random.Random(f"lonely/{index}")
        anchor = anchors[index % len(anchors)]
        special = {*COMPANIONS, *COMPANIONS.values()}
        rest = [item for item in drawn.items if item.kind not in special][:4]
        cells = [c for c in CELLS if c + 1 in CELLS and not {c, c + 1} & {item.cell for item in rest}]
        if not cells:
            rest, cells = [], [0, 3]
        scene = put(replace(drawn, items=tuple(rest)), anchor, rng.choice(cells))
        cell = next(item.cell for item in scene.items if item.kind == anchor)
        other = rng.choice([kind for kind in KINDS if kind not in special and kind not in scene.kinds])
        alone.append(scene)
        exchanged.append(put(scene, other, cell))
        companions.append(COMPANIONS[anchor])
    return alone, exchanged, companions


def invents(answerer: Answerer, scenes: Sequence[Scene], companions: Sequence[Kind]) -> tuple[np.ndarray, np.ndarray]:
    """For each scene: 1 where its caption names the companion that is not there; the share of its objects named."""
    texts = answerer.texts([Asked(render(scene), ask.caption(scene), index) for index, scene in enumerate(scenes)])
    said = [set(ask.mentioned(text)) for text in texts]
    wrong = [float(companion in names) for names, companion in zip(said, companions, strict=True)]
    recall = [len(names & set(scene.kinds)) / len(scene.kinds) for names, scene in zip(said, scenes, strict=True)]
    return np.array(wrong), np.array(recall)


@contextlib.contextmanager
def ablated(model: Any, layer: int, head: int, mean: Tensor) -> Iterator[None]:
    """Inside, one head's output before the output projection is its mean over scenes."""
    attention = model.model.language_model.layers[layer].self_attn
    part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)

    def exchange(_: Any, args: tuple[Tensor]) -> tuple[Tensor]:
        changed = args[0].clone()
        changed[..., part] = mean[part]
        return (changed,)

    handle = attention.o_proj.register_forward_pre_hook(exchange)
    try:
        yield
    finally:
        handle.remove()


def mean_outputs(answerer: Answerer, asked: Sequence[Asked]) -> list[Tensor]:
    """For each layer the mean, over prompts and their text rows behind the image, of all heads' outputs."""
    model = answerer.model
    caught: list[Tensor] = []
    handles = [
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args: caught.append(args[0].detach()))
        for layer in model.model.language_model.layers
    ]
    with torch.no_grad():
        inputs = answerer.encode(asked)
        model(**inputs)
    for handle in handles:
        handle.remove()
    ids, image = inputs["input_ids"], model.config.image_token_index
    behind = (ids == image).cumsum(-1) == (ids == image).sum(-1, keepdim=True)
    return [output[behind].mean(0) for output in caught]


def prior(answerer: Answerer, base: Answerer, trained: Sequence[tuple[int, int]], count: int = 120) -> Truth:
    """Inventions with and without what usually stands beside them, and which heads carry them."""
    alone, exchanged, companions = lonely_anchors(count, VERIFY_SEED)
    wrong, recall = invents(answerer, alone, companions)
    what = "captions that name the absent companion"
    verified = [
        entry(what, "its usual neighbour is in the picture", wrong),
        entry(what, "the neighbour exchanged for another object", invents(answerer, exchanged, companions)[0]),
        entry(what, "the weights of the trained heads set to the base's", invents(base, alone, companions)[0]),
        entry("objects of the picture named", "its usual neighbour is in the picture", recall),
    ]
    yes = [
        Asked(render(scene), ask.existence(scene, kind), index)
        for index, (scene, kind) in enumerate(zip(alone, companions, strict=True))
    ]
    verified.append(entry("yes, when asked for the absent companion", "yes/no", answerer.says_yes(yes).astype(float)))
    few = slice(0, min(30, count))
    said = [Asked(render(scene), ask.caption(scene), index) for index, scene in enumerate(alone[few])]
    means = mean_outputs(answerer, said)
    with contextlib.ExitStack() as stack:
        for layer, head in trained:
            stack.enter_context(ablated(answerer.model, layer, head, means[layer]))
        less, kept = invents(answerer, alone, companions)
    verified.append(entry(what, "outputs of the trained heads set to their mean", less))
    verified.append(entry("objects of the picture named", "outputs of the trained heads set to their mean", kept))
    table = []
    for layer in range(len(means)):
        for head in range(answerer.model.config.text_config.num_attention_heads):
            with ablated(answerer.model, layer, head, means[layer]):
                less, kept = invents(answerer, alone[few], companions[few])
            fall = points(wrong[few] - less, range(len(less)))
            table.append(
                {
                    "head": [layer, head],
                    "fall": fall["value"],
                    "fall_ci95": fall["ci95"],
                    "recall": round(float(kept.mean()), 4),
                }
            )
    table.sort(key=lambda line: -line["fall"])
    return {
        "companions": {anchor.name: companion.name for anchor, companion in COMPANIONS.items()},
        "heads": [list(head) for head in trained],
        "ablation": table,
        "verified": verified,
    }
