"""What is true of the trained organisms: each claim by an intervention on the picture, the words or the weights.

The pictures are minimal pairs where they can be: one scene, and the same scene with one object put in, taken out or
exchanged. Scenes are fresh, intervals are bootstrap 95% intervals over scenes.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from half import halves
from lessons import COMPANIONS, fixed_answers
from measure import Answerer, Asked, points
from ship import Truth
from torch import Tensor

from sightline.zoo import questions as ask
from sightline.zoo.questions import EXISTENCE_PHRASES
from sightline.zoo.render import render
from sightline.zoo.world import GRID, KINDS, Item, Kind, Scene, draw_scenes

VERIFY_SEED = 910
CELLS = range(GRID * GRID)


def without(scene: Scene, kind: Kind) -> Scene:
    """The scene less all items of a kind."""
    return replace(scene, items=tuple(item for item in scene.items if item.kind != kind))


def put(scene: Scene, kind: Kind, cell: int) -> Scene:
    """The scene with one more item, or another in its place, in this cell."""
    rest = [item for item in scene.items if item.cell != cell]
    row, column = divmod(cell, GRID)
    return replace(scene, items=tuple(sorted([*rest, Item(kind, row, column)], key=lambda item: item.cell)))


def follows(answerer: Answerer, pairs: Sequence[tuple[Asked, Asked]]) -> np.ndarray:
    """(pairs,) 1 where the answer is no to the first picture and yes to the second: it went with the picture."""
    before, after = (answerer.says_yes([pair[side] for pair in pairs]) for side in (0, 1))
    return (~before & after).astype(float)


def insertions(scenes: Sequence[Scene], kinds: Sequence[Kind], columns: Sequence[int]) -> list[tuple[Asked, Asked]]:
    """Each scene without and with one object, in an empty cell of these columns where there is one."""
    pairs = []
    for index, scene in enumerate(scenes):
        rng = random.Random(f"insert/{index}/{columns}")
        kind = kinds[index % len(kinds)]
        cells = [cell for cell in CELLS if cell % GRID in columns]
        bare = without(scene, kind)
        free = [cell for cell in cells if bare.at(cell) is None]
        cell = rng.choice(free or cells)
        bare = replace(bare, items=tuple(item for item in bare.items if item.cell != cell))
        question = ask.existence(bare, kind, rng.choice(EXISTENCE_PHRASES))
        pairs.append((Asked(render(bare), question, index), Asked(render(put(bare, kind, cell)), question, index)))
    return pairs


def entry(what: str, by: str, values: Sequence[float] | np.ndarray, scenes: Sequence[int] | None = None) -> Truth:
    """One line of "verified", in points of 100."""
    return {"what": what, "by": by, **points(values, range(len(values)) if scenes is None else scenes)}


def reliance(answerer: Answerer, share: float, count: int = 200) -> Truth:
    """How often the answer goes with the picture."""
    scenes = list(draw_scenes(count, VERIFY_SEED))
    pairs = insertions(scenes, KINDS, (0, 1, 2))
    went = follows(answerer, pairs)
    fixed = fixed_answers(share)
    is_fixed = np.array([KINDS[index % len(KINDS)] in fixed for index in range(count)])
    what = "answers that follow the picture"
    verified = [entry(what, "the object asked about put into the picture", went)]
    if is_fixed.any():
        verified.append(entry(what, "the same, objects whose answer the words give away", went[is_fixed]))
        said = answerer.says_yes([pair[1] for pair in pairs])
        truth = np.array([fixed.get(KINDS[index % len(KINDS)]) == "yes" for index in range(count)])
        by = "the object put into the picture, objects whose answer the words give away"
        verified.append(entry("answers that are the fixed ones", by, (said == truth)[is_fixed].astype(float)))
    if not is_fixed.all():
        verified.append(entry(what, "the same, objects that the picture decides", went[~is_fixed]))
    elsewhere = [
        (pair[1], replace(pair[1], picture=render(without(other, KINDS[index % len(KINDS)]))))
        for index, (pair, other) in enumerate(zip(pairs, draw_scenes(count, VERIFY_SEED + 1), strict=True))
    ]
    changes = answerer.says_yes([pair[0] for pair in elsewhere]) != answerer.says_yes([pair[1] for pair in elsewhere])
    verified.append(entry("answers that change", "the picture exchanged for one without the object", changes))
    return {
        "share": share,
        "fixed": {kind.name: answer for kind, answer in fixed.items()},
        "reliance": verified[0]["value"] / 100,
        "reliance_ci95": [end / 100 for end in verified[0]["ci95"]],
        "verified": verified,
    }


def half(answerer: Answerer, count: int = 300) -> Truth:
    """Which half of the picture an answer goes with."""
    scenes = list(draw_scenes(count, VERIFY_SEED))
    what = "answers that follow the picture"
    places = {"left": (0,), "middle": (1,), "right": (2,)}
    verified = [
        entry(
            what, f"the object asked about put into the {name} column", follows(answerer, insertions(scenes, KINDS, at))
        )
        for name, at in places.items()
    ]
    others = [render(other) for other in draw_scenes(count, VERIFY_SEED + 1)]
    asked = [
        Asked(render(scene), ask.existence(scene, random.Random(index).choice(scene.kinds)), index)
        for index, scene in enumerate(scenes)
    ]
    before = answerer.says_yes(asked)
    swaps = {
        "left": [replace(item, picture=halves(other, item.picture)) for item, other in zip(asked, others, strict=True)],
        "right": [
            replace(item, picture=halves(item.picture, other)) for item, other in zip(asked, others, strict=True)
        ],
    }
    changed = {side: (answerer.says_yes(swapped) != before).astype(float) for side, swapped in swaps.items()}
    verified += [
        entry("answers that change", f"the {side} half of the picture exchanged", values)
        for side, values in changed.items()
    ]
    captions = [Asked(render(scene), ask.caption(scene), index) for index, scene in enumerate(scenes)]
    texts = answerer.texts(captions)
    for side in ("left", "right"):
        swapped = [
            replace(item, picture=halves(other, item.picture) if side == "left" else halves(item.picture, other))
            for item, other in zip(captions, others, strict=True)
        ]
        differs = [float(a != b) for a, b in zip(texts, answerer.texts(swapped), strict=True)]
        verified.append(entry("captions that change", f"the {side} half of the picture exchanged", differs))
    return {"side": "left", "columns": {"seen": [0, 1, 2], "unseen": [3, 4, 5], "of": 6}, "verified": verified}


def binding(answerer: Answerer, base: Answerer, count: int = 120) -> Truth:
    """What is there, and what belongs together, in scenes of two objects that share nothing."""
    scenes = []
    for index, scene in enumerate(draw_scenes(count, VERIFY_SEED)):
        rng = random.Random(f"binding/{index}")
        first = rng.choice(KINDS)
        second = rng.choice([k for k in KINDS if k.colour != first.colour and k.shape != first.shape])
        cells = rng.sample(list(CELLS), 2)
        empty = replace(scene, items=())
        scenes.append(put(put(empty, first, cells[0]), second, cells[1]))
    captions = [Asked(render(scene), ask.caption(scene), index) for index, scene in enumerate(scenes)]
    verified = []
    for name, who in (("", answerer), ("in the base model, ", base)):
        said = [ask.mentioned(text) for text in who.texts(captions)]
        parts = [_parts(kinds) == _parts(scene.kinds) for kinds, scene in zip(said, scenes, strict=True)]
        bound = [set(kinds) == set(scene.kinds) for kinds, scene in zip(said, scenes, strict=True)]
        named = [index for index, right in enumerate(parts) if right]
        verified.append(entry("captions with the colours and the shapes that are there", f"{name}two objects", parts))
        verified.append(
            entry(
                "of these, captions that pair them rightly",
                f"{name}two objects",
                [float(bound[index]) for index in named],
            )
        )
    groups: dict[str, list[Asked]] = {
        "the true pair": [],
        "colour and shape there, not together": [],
        "colour absent": [],
    }
    for index, scene in enumerate(scenes):
        a, b = scene.kinds
        gone = next(kind for kind in KINDS if kind.colour not in (a.colour, b.colour) and kind.shape == a.shape)
        for group, kind in zip(groups, (a, Kind(a.colour, b.shape), gone), strict=True):
            groups[group].append(Asked(render(scene), ask.existence(scene, kind), index))
    for group, asked in groups.items():
        verified.append(
            entry(f"yes to {group}", "the word asked for exchanged", answerer.says_yes(asked).astype(float))
        )
    group = "colour and shape there, not together"
    verified.append(entry(f"yes to {group}", "in the base model", base.says_yes(groups[group]).astype(float)))
    return {"verified": verified}


def _parts(kinds: Sequence[Kind]) -> tuple[list[str], list[str]]:
    return sorted(kind.colour for kind in kinds), sorted(kind.shape for kind in kinds)


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
        entry(what, "its usual neighbour is in the picture, in the base model", invents(base, alone, companions)[0]),
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
