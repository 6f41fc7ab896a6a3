"""The rows of the steering table: every method beside its controls, and what some of them need made for the model."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

import sightline as sl
from sightline.zoo import questions as ask
from sightline.zoo.render import render
from sightline.zoo.world import Scene, draw_scenes, negatives

PAIRS_SEED = 700_011
"""Scenes that directions and heads are found in: none of them is asked about."""
PAIRS = 70
COPIES = 10
"""Captions, as in VTI's paper."""
WORST = 4
"""Heads of adhh, an eighth of these models' heads: 20 of 1024 as in the paper would be none."""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        title: as the table says it.
        spec: of the method; words in capitals stand for what is found for each model.
        is_control: acts alike without the method's cause.
        sampled: at temperature 1, else greedy.
        view: what the questions come with instead of their own picture and words, see `asked_as`.
    """

    title: str
    spec: str
    is_control: bool = False
    sampled: bool = False
    view: str | None = None

    @property
    def key(self) -> str:
        return self.title + (", sampled" if self.sampled else "")


ROWS = (
    Row("none", "none"),
    Row("the picture in shuffled blocks", "none", True, view="shuffled image"),
    Row("a grey picture", "none", True, view="blank image"),
    Row("another scene's picture", "none", True, view="other image"),
    Row("asked to say yes", "none", True, view="prompt tilt"),
    Row("tilt to yes (yes_bias)", "yes_bias", True),
    Row("VAR, sinks as found", "var:SINKS"),
    Row("VAR, sinks forced", "var:FORCED"),
    Row("the same in all heads", "var:FORCED,rho=1,summ=0"),
    Row("random tokens give instead", "var_random:FORCED", True),
    Row("forced sinks hidden", "mask_sinks:FORCED", True),
    Row("as many random tokens hidden", "mask_random:FORCED", True),
    Row("PAI", "pai"),
    Row("its attention part alone", "pai:gamma=1", True),
    Row("its contrast alone", "pai:alpha=0", True),
    Row("text raised instead of the image", "pai:target=text", True),
    Row("VCD", "vcd"),
    Row("contrast without the image, same weight", "pai:alpha=0,gamma=2", True),
    Row("M3ID", "m3id"),
    Row("M3ID, the paper's form", "m3id:form=paper"),
    Row("ICD", "icd"),
    Row("AvisC", "avisc"),
    Row("SID", "sid:keep=9"),
    Row("DoLa", "dola"),
    Row("DeCo", "deco"),
    Row("its candidates alone", "deco:alpha=0", True),
    Row("ONLY", "only"),
    Row("VISTA", "vista"),
    Row("its steering alone", "vista:gamma=0", True),
    Row("its early layers alone", "vista:lam=0", True),
    Row("steering by random directions", "vista:gamma=0,random=true", True),
    Row("MemVR", "memvr"),
    Row("random features instead of the image's", "memvr:random=true", True),
    Row("steering to true captions", "steer:direction=TEXT"),
    Row("random directions as strong", "steer:direction=TEXT,random=true", True),
    Row("VTI", "vti:text=TEXT,vision=TOWER"),
    Row("random directions in both", "vti:text=TEXT,vision=TOWER,random=true", True),
    Row("SPIN", "spin"),
    Row("SPIN by weights", "spin:by=weights"),
    Row("random heads kept", "spin:by=random", True),
    Row("AD-HH", "adhh:heads=HEADS"),
    Row("as many other heads", "adhh:heads=HEADS,random=true", True),
    Row("EAH", "eah"),
    Row("VAF", "vaf"),
    Row("text enhanced instead of the image", "vaf:target=text", True),
    Row("AdaptVis", "adaptvis"),
    Row("its two factors exchanged", "adaptvis:weak=1.5,strong=0.5", True),
    Row("OPERA, one beam", "opera:beams=1"),
    Row("OPERA", "opera"),
    Row("its beams alone", "opera:alpha=0,patience=0", True),
    Row("FastV 50%", "fastv:R=0.5"),
    Row("random tokens dropped, 50%", "fastv_random:R=0.5", True),
    Row("PyramidDrop", "pyramiddrop"),
    Row("as many random tokens at each layer", "pyramiddrop:random=true", True),
    Row("SparseVLM", "sparsevlm:keep=0.52+0.35+0.19"),
    Row("as many random tokens at its layers", "sparsevlm:keep=0.52+0.35+0.19,random=true", True),
    Row("FasterVLM 75%", "fastervlm:r=0.75"),
    Row("random tokens dropped, 75%", "fastervlm_random:r=0.75", True),
    Row("DivPrune 75%", "divprune:keep=0.25"),
    Row("CDPruner 75%", "cdpruner:keep=0.25"),
    Row("VisionZip 75%", "visionzip:keep=0.25,merged=2"),
    Row("VisionZip 75%, none merged", "visionzip:keep=0.25,merged=0", True),
    Row("random tokens kept, 25%", "prune_random:keep=0.25", True),
    Row("random tokens kept, 12.5%", "prune_random:keep=0.125", True),
    Row("FasterVLM 90%", "fastervlm:r=0.9"),
    Row("random tokens dropped, 90%", "fastervlm_random:r=0.9", True),
    Row("FasterVLM 95%", "fastervlm:r=0.95"),
    Row("random tokens dropped, 95%", "fastervlm_random:r=0.95", True),
    Row("none", "none", sampled=True),
    Row("VCD", "vcd", sampled=True),
    Row("its cut-off alone (noise of step 0)", "vcd:step=0", True, True),
    Row("contrast without the image, same weight", "pai:alpha=0,gamma=2", True, True),
    Row("M3ID", "m3id", sampled=True),
    Row("ICD", "icd", sampled=True),
    Row("AvisC", "avisc", sampled=True),
    Row("SID", "sid:keep=9", sampled=True),
    Row("ONLY", "only", sampled=True),
    Row("DoLa", "dola", sampled=True),
    Row("the cut-off alone", "cut_off", True, True),
)


def rows_of(known: Mapping[str, float] | None) -> tuple[Row, ...]:
    """The greedy rows for a model whose fault is known; known: the settings under which VAR mends it, if it has sinks.

    Where sinks are planted none is forced, and VAR and its controls stand at these settings as well.
    """
    greedy = tuple(row for row in ROWS if not row.sampled)
    if known is None:
        return greedy
    fields = ",".join(f"{name}={value}" for name, value in known.items())
    of_sinks = (
        Row("VAR, sinks as found", "var:SINKS"),
        Row("random tokens give instead", "var_random:SINKS", True),
        Row("VAR at the settings that mend", f"var:SINKS,{fields}"),
        Row("random tokens give instead, same settings", f"var_random:SINKS,{fields}", True),
        Row("sinks hidden", "mask_sinks:SINKS"),
        Row("as many random tokens hidden", "mask_random:SINKS", True),
    )
    first = next(place for place, row in enumerate(greedy) if "SINKS" in row.spec)
    rest = (row for row in greedy[first:] if "SINKS" not in row.spec and "FORCED" not in row.spec)
    return (*greedy[:first], *of_sinks, *rest)


class Made:
    """What rows name in capitals, found when the first row asks for it: HEADS by name, TEXT and TOWER in files."""

    def __init__(self, vlm: Any, folder: Path) -> None:
        self.vlm, self.folder = vlm, folder

    @cached_property
    def heads(self) -> str:
        """Of adhh."""
        return "+".join(_heads(self.vlm, draw_scenes(PAIRS, PAIRS_SEED)))

    @cached_property
    def directions(self) -> dict[str, Path]:
        """Files of steer and vti."""
        scenes = list(draw_scenes(PAIRS, PAIRS_SEED))
        files = {name: self.folder / f"{name}.safetensors" for name in ("TEXT", "TOWER")}
        sl.find_direction(self.vlm, _captions(scenes), kind="pca").save(files["TEXT"])
        one_size = not self.vlm.name.startswith("tiny-qwen")
        tower = sl.find_direction(self.vlm, _pictures(scenes), kind="pca", part="tower", each_patch=one_size)
        tower.save(files["TOWER"])
        return files

    def filled(self, spec: str) -> str:
        """The spec with its files of directions."""
        for name in ("TEXT", "TOWER"):
            spec = spec.replace(name, str(self.directions[name])) if name in spec else spec
        return spec


def _captions(scenes: Iterable[Scene]) -> Iterable[tuple[sl.Sample, sl.Sample]]:
    """A true caption, and one with a thing that is not there in the place of one that is; both with the picture."""
    for number, scene in enumerate(scenes):
        rng = random.Random(f"captions/{number}")
        true, absent = ask.caption_text(scene), negatives(scene, 1, "random", rng)[0]
        false = true.replace(str(rng.choice(scene.kinds)), str(absent), 1)
        picture = render(scene)
        yield sl.Sample(image=picture, prompt=true), sl.Sample(image=picture, prompt=false)


def _pictures(scenes: Iterable[Scene]) -> Iterable[tuple[list[sl.Sample], sl.Sample]]:
    """COPIES of a picture with all but one of its 36 patches at its mean colour, and the picture: as VTI has it."""
    for number, scene in enumerate(scenes):
        rng = random.Random(f"pictures/{number}")
        picture = render(scene)
        mean = picture.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        copies = []
        for _ in range(COPIES):
            left, top = (side * rng.randrange(6) // 6 for side in picture.size)
            box = (left, top, left + picture.width // 6, top + picture.height // 6)
            copy = Image.new("RGB", picture.size, mean)
            copy.paste(picture.crop(box), box)
            copies.append(copy)
        masked = [sl.Sample(image=each, prompt=ask.CAPTION_PHRASES[0]) for each in copies]
        yield masked, sl.Sample(image=picture, prompt=ask.CAPTION_PHRASES[0])


def _heads(vlm: Any, scenes: Iterable[Scene]) -> tuple[str, ...]:
    """The heads that a false yes owes most to, less what a true yes owes: by gradient, mean over scenes."""
    total: Any = 0
    yes = vlm.tokenizer("yes", add_special_tokens=False)["input_ids"][-1]
    for number, scene in enumerate(scenes):
        rng = random.Random(f"heads/{number}")
        asked = {
            -1: ask.existence(scene, rng.choice(scene.kinds)),
            1: ask.existence(scene, negatives(scene, 1, "adversarial", rng)[0]),
        }
        for sign, question in asked.items():
            inputs = vlm.encode(sl.Sample(image=render(scene), prompt=question.prompt))
            found = sl.head_effects(vlm, inputs, target=yes, exact=False)
            total = total + sign * found.gradient
    order = total.flatten().argsort()[:WORST].tolist()
    return tuple(f"{found.layers[place // total.shape[1]]}.{place % total.shape[1]}" for place in order)
