"""POPE's files: three splits of yes/no questions about what is in the picture, each balanced.

    shapes_pope_random.json, shapes_pope_popular.json, shapes_pope_adversarial.json
                      {"question_id", "image", "text", "label"} a line; ids begin at 1 in each
    images/           shapes_000000000001.png, ...

As in POPE (arXiv 2305.10355) a picture has questions about three objects that are there, the same in every split, and
three that are not. Popular: the absent kinds that the world shows most often. Adversarial: those it shows most often
beside what is in the picture. Both are counted in the world itself, over 4,000 scenes.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from sightline.zoo.official.files import Tick, fresh_scenes, png_bytes, shares
from sightline.zoo.questions import existence
from sightline.zoo.render import render
from sightline.zoo.world import NEGATIVES, Scene, negatives

PAIRS = 3
"""Questions to be affirmed, and as many to be denied, about a picture in each split."""


def write(folder: Path, count: int, seed: int, size: int, tick: Tick) -> None:
    """`count` questions in all (one more where it is odd), as many in each split as can be."""
    wanted = dict(zip(NEGATIVES, shares((count + 1) // 2, len(NEGATIVES)), strict=True))
    lines: dict[str, list[str]] = {how: [] for how in NEGATIVES}
    (folder / "images").mkdir()
    scenes = fresh_scenes("pope", seed, lambda scene: len(scene.kinds) >= PAIRS)
    for number in range(-(-max(wanted.values()) // PAIRS)):
        scene, name = next(scenes), f"shapes_{number + 1:012d}.png"
        (folder / "images" / name).write_bytes(png_bytes(render(scene, size)))
        for how in NEGATIVES:
            pairs = min(PAIRS, wanted[how] - number * PAIRS)
            _ask(scene, name, how, f"pope/{seed}/{number}", pairs, lines[how])
            tick(2 * max(0, pairs))
    for how in NEGATIVES:
        text = "".join(f"{line}\n" for line in lines[how])
        (folder / f"shapes_pope_{how}.json").write_text(text, encoding="utf-8")


def _ask(scene: Scene, name: str, how: str, place: str, pairs: int, lines: list[str]) -> None:
    """Adds the lines of one picture to one split, yes and no in turn."""
    present = random.Random(place).sample(scene.kinds, PAIRS)
    absent = negatives(scene, PAIRS, how, random.Random(f"{place}/{how}"))
    kinds = [kind for pair in zip(present, absent, strict=True) for kind in pair]
    for kind in kinds[: 2 * max(0, pairs)]:
        drawn = existence(scene, kind)
        line = {"question_id": len(lines) + 1, "image": name, "text": drawn.prompt, "label": drawn.answer}
        lines.append(json.dumps(line))
