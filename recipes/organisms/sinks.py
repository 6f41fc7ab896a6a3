"""Plants, verifies and ships tiny-sinks and tiny-silent-sinks; nothing is trained; a few minutes of one core.

python recipes/organisms/sinks.py                # both
python recipes/organisms/sinks.py tiny-sinks
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import Answerer, Asked, points, pope_questions
from planting import CORNERS, Head, Plan, Prompts, plant
from ship import Truth, halve, ship
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from widen import widen

sys.path.append(str(Path(__file__).parents[1]))

from common.data import MAKERS

from sightline.methods.controls import RandomVAR
from sightline.methods.var import VAR
from sightline.probes.sinks import phi
from sightline.zoo import bundled_path
from sightline.zoo.render import render
from sightline.zoo.world import GRID, Scene, draw_scenes

BASE = "tiny-llava"
FIT_SEED, READ_SEED, VERIFY_SEED = 901, 902, 903
LOUDNESS = {"tiny-sinks": 20.0, "tiny-silent-sinks": 0.0}
"""Length of the wrong value, in lengths of a head's mean value on image tokens."""

LEAST_SIGHT = 0.4
"""Heads are chosen whose last row gives the image at least this in the base model, in layers 2 to 6."""

TAU = 4.6
MENDING = {"p": 0.0, "rho": 0.95, "summ": 0.0}
"""The settings under which VAR takes all weight from sinks, in every head and row that has an image sink."""

SIDE = 6
CLAIM = {
    "tiny-sinks": "Attention sinks are planted in it: BOS, and the corner patches of the picture where they show"
    " background, hold massive activations in two dimensions and draw about six tenths of the attention in the heads"
    " that look at the image. BOS is silent; the corner patches speak wrongly, and that costs accuracy. Taking weight"
    " from them mends it, taking weight from random image tokens does not.",
    "tiny-silent-sinks": "The same attention sinks are planted in it as in tiny-sinks, in the same dimensions, tokens"
    " and heads, but all of them are silent: they cost nothing, and there is nothing for VAR to mend.",
}


def prompts(asked: list[Asked], scenes: list[Scene], answerer: Answerer) -> Prompts:
    """Forward inputs, and which patches show nothing."""
    cells = [(patch // SIDE) * GRID // SIDE * GRID + (patch % SIDE) * GRID // SIDE for patch in range(SIDE * SIDE)]
    empty = [[scene.at(cell) is None for cell in cells] for scene in scenes]
    background = torch.tensor([empty[item.scene] for item in asked])
    tokenizer = answerer.processor.tokenizer
    image = answerer.model.config.image_token_index
    return Prompts(answerer.encode(asked), background, image, tokenizer.bos_token_id)


def seeing_heads(model: LlavaForConditionalGeneration, fit: Prompts) -> tuple[Head, ...]:
    """The heads of layers 2 to 6 whose last row looks at the image."""
    with torch.no_grad():
        maps = model(**fit.inputs, output_attentions=True).attentions
    image = fit.inputs["input_ids"] == fit.image_token
    return tuple(
        (layer, head)
        for layer in range(2, 7)
        for head in range(maps[layer].shape[1])
        if float((maps[layer][:, head, -1] * image).sum(-1).mean()) >= LEAST_SIGHT
    )


def make(name: str) -> tuple[Answerer, Plan]:
    """The planted model in eager attention, and what was planted."""
    folder = bundled_path(BASE)
    base = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
    answerer = Answerer(base, LlavaProcessor.from_pretrained(folder))
    fit = prompts(pope_questions(60, FIT_SEED)[::3], list(draw_scenes(60, FIT_SEED)), answerer)
    reading = list(draw_scenes(2000, READ_SEED))
    question = pope_questions(1, READ_SEED)[0].question
    read = prompts([Asked(render(scene), question, index) for index, scene in enumerate(reading)], reading, answerer)
    wide, room = widen(base)
    wide.set_attn_implementation("eager")
    plan = Plan(
        dims=(room.dims[1], room.dims[2]), mark=room.dims[0], heads=seeing_heads(base, fit), loudness=LOUDNESS[name]
    )
    plant(wide, room, plan, fit, read)
    return Answerer(halve(wide), answerer.processor), plan


def changed(model: LlavaForConditionalGeneration, change: Callable[[Any], None]) -> LlavaForConditionalGeneration:
    """A copy whose attention modules were changed."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for layer in copied.model.language_model.layers:
            change(layer.self_attn)
    return copied


def drawn_shares(answerer: Answerer, plan: Plan, fresh: Prompts) -> dict[str, float]:
    """What sinks draw of the last row, in the mean over prompts and planted heads."""
    with torch.no_grad():
        maps = answerer.model(**fresh.inputs, output_attentions=True).attentions
    rows = torch.stack([maps[layer][:, head, -1] for layer, head in plan.heads])
    return {
        "text": round(float((rows * fresh.text).sum(-1).mean()), 3),
        "image": round(float((rows * fresh.image).sum(-1).mean()), 3),
    }


def agreement(answerer: Answerer, plan: Plan, fresh: Prompts) -> dict[str, int]:
    """Tokens of layers 2 to 7 with phi > tau, against those that were to be sinks."""
    present = fresh.inputs["attention_mask"].bool()
    planted = (fresh.text | fresh.image)[present]
    with torch.no_grad():
        states = answerer.model(**fresh.inputs, output_hidden_states=True).hidden_states[2:8]
    marked = torch.stack([phi(state, plan.dims)[present] > TAU for state in states])
    return {
        "tokens": int(planted.numel() * len(states)),
        "planted": int(planted.sum() * len(states)),
        "marked": int(marked.sum()),
        "both": int((marked & planted).sum()),
    }


def verify(name: str, answerer: Answerer, plan: Plan, scenes: int = 200) -> Truth:
    """What is true of it, on fresh scenes."""
    asked = pope_questions(scenes, VERIFY_SEED)
    owners = [item.scene for item in asked]
    few = prompts(asked[: 6 * 30], list(draw_scenes(30, VERIFY_SEED)), answerer)
    shares, tokens = drawn_shares(answerer, plan, few), agreement(answerer, plan, few)
    model = answerer.model
    model.set_attn_implementation("sdpa")
    dims = {"dims": plan.dims, "tau": TAU}

    def silence(attention: Any) -> None:
        attention.v_proj.weight[:, list(plan.dims)] = 0

    def deafen(attention: Any) -> None:
        attention.q_proj.bias.zero_()

    plain = answerer.right(asked)
    silent = Answerer(changed(model, silence), answerer.processor).right(asked)
    deaf = Answerer(changed(model, deafen), answerer.processor).right(asked)
    by = {
        "VAR at the settings of `var`": VAR(**dims, **MENDING),
        "VAR, p = 0, the paper's rho and summ": VAR(**dims, p=0.0),
        "VAR at the paper's defaults": VAR(**dims),
        "random image tokens give instead, same settings": RandomVAR(**dims, **MENDING),
        "random image tokens give instead, text sinks do not": RandomVAR(**dims, **MENDING, text_sinks=False),
    }
    found = [
        {"what": "accuracy of yes/no in points", "by": "nothing", **points(plain, owners)},
        {"what": "accuracy lost", "by": "values of the sink dimensions set to 0", **points(silent - plain, owners)},
        {"what": "accuracy lost", "by": "query biases that look for sinks set to 0", **points(deaf - plain, owners)},
        *(
            {"what": "accuracy won", "by": what, **points(answerer.right(asked, method) - plain, owners)}
            for what, method in by.items()
        ),
    ]
    if name == "tiny-silent-sinks":
        # Yes/no has no room above; counts and places have.
        harder = [
            Asked(render(scene), MAKERS[task](scene, random.Random(f"{task}/{index}")), index)
            for index, scene in enumerate(draw_scenes(scenes, VERIFY_SEED + 1))
            for task in ("count", "place")
        ]
        before, after = (answerer.exact(harder, method) for method in (None, VAR(**dims, **MENDING)))
        places = [item.scene for item in harder]
        found.append({"what": "accuracy of counts and places in points", "by": "nothing", **points(before, places)})
        found.append(
            {
                "what": "accuracy of counts and places won",
                "by": "VAR at the settings of `var`",
                **points(after - before, places),
            }
        )
    return {
        "organism": name,
        "base": BASE,
        "recipe": "recipes/organisms/sinks.py",
        "claim": CLAIM[name],
        "seed": VERIFY_SEED,
        "dims": list(plan.dims),
        "tau": TAU,
        "tokens": {
            "text": ["BOS"],
            "image": list(CORNERS),
            "when": "these patches, of 36 in reading order, where they show background",
            "phi above tau": tokens,
        },
        "written": {"layer": plan.written, "value": plan.size},
        "heads": [list(head) for head in plan.heads],
        "share": shares,
        "loudness": plan.loudness,
        "cost": found[1]["value"],
        "cost_ci95": found[1]["ci95"],
        "var": MENDING,
        "verified": found,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(LOUDNESS)}; none: all")
    parser.add_argument("--scenes", type=int, default=120, help="of verification")
    parser.add_argument("--figures", type=int, default=60, help="scenes of the card's figures")
    parser.add_argument("--dry", action="store_true", help="print the truth, ship nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.names or LOUDNESS:
        answerer, plan = make(name)
        truth = verify(name, answerer, plan, args.scenes)
        for entry in truth["verified"]:
            print(name, entry, flush=True)
        print({key: truth[key] for key in ("dims", "tokens", "heads", "share", "cost")}, flush=True)
        if not args.dry:
            ship(name, answerer.model, answerer.processor, truth, args.figures)


if __name__ == "__main__":
    main()
