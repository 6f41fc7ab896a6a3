"""CHAIR's files: COCO annotations and captions of drawn pictures, and a synonym file of this world's objects.

annotations/instances_val2014.json    what stands where: boxes and outlines in pixels
annotations/captions_val2014.json     five captions a picture, as people write them: in any order, leaving things out,
                                      counting, in other words; never naming what is not there
val2014/                              000000000001.png, ...
synonyms.txt                          "red circle, red disc, ..." a line, 25 lines of two-word names
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sightline.zoo import questions as ask
from sightline.zoo.official.files import Tick, fresh_scenes, png_bytes, write_json
from sightline.zoo.render import outline, render
from sightline.zoo.world import KINDS, Kind, Scene, SceneObject

ALIASES: dict[str, tuple[str, ...]] = {
    "circle": ("disc", "disk", "ball"),
    "square": ("box", "block"),
    "triangle": ("pyramid",),
    "star": ("asterisk",),
    "cross": ("plus",),
}
"""Other words for a shape."""

CAPTIONS = 5
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


def write(folder: Path, count: int, seed: int, size: int, tick: Tick) -> None:
    """`count` pictures."""
    (folder / "val2014").mkdir()
    scenes = fresh_scenes("chair", seed)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        scene, name = next(scenes), f"{number:012d}.png"
        (folder / "val2014" / name).write_bytes(png_bytes(render(scene, size)))
        images.append({"id": number, "file_name": name, "width": size, "height": size})
        boxes += [_instance(item, number, len(boxes) + place, size) for place, item in enumerate(scene.items, start=1)]
        sentences = human_captions(scene, random.Random(f"chair/{seed}/{number}"))
        captions += [
            {"id": len(captions) + place, "image_id": number, "caption": text}
            for place, text in enumerate(sentences, start=1)
        ]
        tick(1)
    info = {"description": "Drawn scenes of coloured shapes in the format of COCO"}
    categories = [
        {"id": place, "name": kind.name, "supercategory": kind.shape} for place, kind in enumerate(KINDS, start=1)
    ]
    whole: dict[str, Any] = {"info": info, "images": images, "annotations": boxes, "categories": categories}
    write_json(folder / "annotations" / "instances_val2014.json", whole)
    write_json(
        folder / "annotations" / "captions_val2014.json", {"info": info, "images": images, "annotations": captions}
    )
    (folder / "synonyms.txt").write_text(synonyms_text(), encoding="utf-8")


def synonyms_text() -> str:
    """The synonym file: each kind of object with its other names, a line each."""
    return "".join(
        ", ".join(f"{kind.colour} {shape}" for shape in (kind.shape, *ALIASES[kind.shape])) + "\n" for kind in KINDS
    )


def human_captions(scene: Scene, rng: random.Random) -> list[str]:
    """Five captions of one picture; all they name is there."""
    kinds = list(scene.kinds)
    some = rng.sample(kinds, rng.randint(1, len(kinds)))
    single = rng.choice(kinds)
    return [
        ask.caption_text(scene).capitalize(),
        f"A picture of {_listed([f'a {kind}' for kind in some])}.",
        f"There {'is' if scene.count(single.colour, single.shape) == 1 else 'are'} {_counted(scene, single)} here.",
        f"{_listed([_counted(scene, kind) for kind in rng.sample(kinds, len(kinds))]).capitalize()} on grey",
        f"a {_renamed(rng.choice(kinds), rng)} among {NUMBERS[len(scene.items)]} shape{'s' * (len(scene.items) > 1)}",
    ]


def _instance(item: SceneObject, image: int, number: int, size: int) -> dict[str, Any]:
    corners = [(round(x, 2), round(y, 2)) for x, y in outline(item, size)]
    across, down = zip(*corners, strict=True)
    left, top, width, height = min(across), min(down), max(across) - min(across), max(down) - min(down)
    following = [*corners[1:], corners[0]]
    double_area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, following, strict=True))
    return {
        "id": number,
        "image_id": image,
        "category_id": KINDS.index(item.kind) + 1,
        "bbox": [round(value, 2) for value in (left, top, width, height)],
        "area": round(abs(double_area) / 2, 2),
        "iscrowd": 0,
        "segmentation": [[value for corner in corners for value in corner]],
    }


def _counted(scene: Scene, kind: Kind) -> str:
    """ "a red circle", "two red circles"."""
    number = scene.count(kind.colour, kind.shape)
    return f"a {kind}" if number == 1 else f"{NUMBERS[number]} {kind.colour} {ask.PLURALS[kind.shape]}"


def _renamed(kind: Kind, rng: random.Random) -> str:
    return f"{kind.colour} {rng.choice(ALIASES[kind.shape])}"


def _listed(names: list[str]) -> str:
    """ "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
