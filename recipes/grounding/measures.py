"""What is found out about a model, before and after a training: the benchmarks, MDI by stage, and AUROC of its scores.

All scenes are of seeds that no training of these recipes draws. The benchmarks are the drawn ones of `sightline eval`,
with their own files, prompts and scores.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

import torch

import sightline as sl
from sightline.benchmarks.base import Item, Verdict, find_bench
from sightline.data.training_files import DrawnImage, TrainingSample
from sightline.models.vlm import VLM
from sightline.probes.detection.detect import captioned, evaluate_detectors
from sightline.stats import auroc
from sightline.zoo import questions as ask
from sightline.zoo.official.files import fresh_scenes
from sightline.zoo.world import COLOURS, SHAPES, Kind, Scene, draw_scene, negatives

SAMPLED = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
SPLITS = ("random", "popular", "adversarial")
DETECTORS = {
    "last4": "grounding last4",
    "first": "grounding layer 0",
    "glsim": "glsim, before",
    "probability": "log-probability",
    "entropy": "entropy",
}
_OBJECT = re.compile(rf"\b({'|'.join(COLOURS)})\s+({'|'.join(SHAPES)})\b")


@dataclass(frozen=True)
class Judge:
    """How large the measures are, and of which drawing.

    seed: of the benchmarks' scenes. questions: of POPE, over the three splits. captions: of CHAIR. words: pairs of a
    true and a swapped object, for AUROC. batch: of generation.
    """

    seed: int
    questions: int
    captions: int
    words: int
    batch: int = 100

    def __call__(self, vlm: VLM) -> dict[str, float]:
        """Every figure, by name."""
        return {**self._pope(vlm), **self._chair(vlm), **self._detection(vlm)}

    def _pope(self, vlm: VLM) -> dict[str, float]:
        bench, items = _bench("shapes-pope", self.seed, self.questions)
        with sl.Dominance().on(vlm) as probe:
            document = bench.score(items, _judged(bench, items, self._answers(vlm, items, 4)))
        figures = {f"pope_{split}": document["splits"][split]["accuracy"] for split in SPLITS}
        figures["pope"] = sum(figures.values()) / len(SPLITS)
        figures["yes_ratio"] = document["yes_ratio"]
        stages = probe.result().stages()
        figures["pope_auroc"] = self._existence(vlm, items)
        return figures | {f"mdi_{stage}": stages[stage]["mdi"] for stage in stages}

    def _existence(self, vlm: VLM, items: Sequence[Item]) -> float:
        """AUROC of log P(yes) - log P(no) for what is there: POPE without the threshold between yes and no."""
        yes, no = (vlm.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
        leaning: list[float] = []
        for inputs in self._batches(vlm, items):
            with torch.no_grad():
                logits = vlm.model(**inputs).logits[:, -1]
            leaning += (logits[:, yes] - logits[:, no]).tolist()
        return auroc(leaning, [item.truth == "yes" for item in items])

    def _chair(self, vlm: VLM) -> dict[str, float]:
        """Greedy, and at temperature 1, where far more is invented."""
        bench, items = _bench("shapes-chair", self.seed, self.captions)
        figures: dict[str, float] = {}
        for suffix, how in (("", {}), ("_sampled", SAMPLED)):
            torch.manual_seed(self.seed)
            document = bench.score(items, _judged(bench, items, self._answers(vlm, items, 48, **how)))
            names = ("chair_s", "chair_i", "recall", "objects_per_caption")
            figures |= {name + suffix: document[name] or 0.0 for name in names}
        return figures

    def _answers(self, vlm: VLM, items: Sequence[Item], new_tokens: int, **how: Any) -> list[str]:
        return [
            vlm.tokenizer.decode(row, skip_special_tokens=True).strip()
            for inputs in self._batches(vlm, items)
            for row in vlm.generate_tokens(inputs, max_new_tokens=new_tokens, **how)
        ]

    def _batches(self, vlm: VLM, items: Sequence[Item]) -> Iterator[Any]:
        for start in range(0, len(items), self.batch):
            part = items[start : start + self.batch]
            yield vlm.encode([sl.Sample(prompt=item.prompt, images=item.images) for item in part])

    def _detection(self, vlm: VLM) -> dict[str, float]:
        """On swapped objects, and on what the model of before any training says of fresh scenes at temperature 1."""
        figures: dict[str, float] = {}
        for words, samples in (("swapped", swapped(self.words, self.seed)), ("said", said(2 * self.words, self.seed))):
            found = evaluate_detectors(vlm, samples, resamples=0)
            for name, detector in DETECTORS.items():
                figures[f"auroc_{words}_{name}"] = found[detector].auroc
        figures["auroc_wrong_image"] = evaluate_detectors(vlm, mismatched(self.words, self.seed), resamples=0)[
            DETECTORS["last4"]
        ].auroc
        return figures


@cache
def _bench(name: str, seed: int, limit: int) -> tuple[Any, list[Item]]:
    bench = find_bench(name)
    return bench, [item for item in bench.load(seed=seed, limit=limit) if isinstance(item, Item)]


def _judged(bench: Any, items: Sequence[Item], said: Sequence[str]) -> dict[str, Verdict]:
    return {item.id: bench.judge(item, answer) for item, answer in zip(items, said, strict=True)}


# Captions with labelled objects ---------------------------------------------------------------------------------------


def drawn(count: int, stream: str, seed: int) -> list[Scene]:
    """Scenes of a stream of their own."""
    return list(islice(fresh_scenes(stream, seed), count))


def picture(scene: Scene) -> tuple[DrawnImage, ...]:
    """The scene as the image of a sample."""
    return (DrawnImage(scene.seed or 0),)


@cache
def said(count: int, seed: int, model: str = "tiny-llava-early", sampled: bool = True) -> tuple[TrainingSample, ...]:
    """What a bundled model says of `count` scenes, its objects labelled."""
    asked = [
        TrainingSample(f"{number}", picture(scene), ask.CAPTION_PHRASES[0], "")
        for number, scene in enumerate(drawn(count, "said", seed))
    ]
    torch.manual_seed(seed)
    vlm = sl.load(model, device="cpu")
    return tuple(captioned(vlm, asked, label, new_tokens=48, batch=100, **(SAMPLED if sampled else {})))


def label(sample: TrainingSample, text: str) -> tuple[tuple[int, int, int], ...]:
    """(start, end, label) of the objects that a caption of a drawn scene names."""
    scene = draw_scene(sample.images[0].scene)  # type: ignore[union-attr]
    return labelled_objects(text, scene.kinds)


@cache
def swapped(count: int, seed: int) -> tuple[TrainingSample, ...]:
    """`count` scenes, each with its true caption and one in which an object is swapped for an absent one.

    The object that is swapped is labelled 0, the same place in the true caption 1, and nothing else: as many of each,
    at the same places, after the same words. Half of the stand-ins are any absent kind, half the absent kind that keeps
    most company with what is there.
    """
    samples: list[TrainingSample] = []
    for number, scene in enumerate(drawn(count, "swapped", seed)):
        rng = random.Random(f"swapped/{seed}/{number}")
        place = rng.randrange(len(scene.items))
        stand_in = negatives(scene, 1, ("random", "adversarial")[number % 2], rng)[0]
        names = [f"a {item.kind}" for item in scene.items]
        for label in (1, 0):
            said = [*names]
            said[place] = names[place] if label else f"a {stand_in}"
            text, start = f"{', '.join(said[:-1])} and {said[-1]}." if len(said) > 1 else f"{said[0]}.", 0
            start = sum(len(name) + 2 for name in said[:place]) + (3 if 0 < place == len(said) - 1 else 0) + 2
            words = ((start, start + len(said[place]) - 2, label),)
            samples.append(TrainingSample(f"{number}-{label}", picture(scene), ask.CAPTION_PHRASES[0], text, words))
    return tuple(samples)


@cache
def mismatched(count: int, seed: int) -> tuple[TrainingSample, ...]:
    """The swapped captions with their labels, each beside the picture of another scene: what a score tells unseeing."""
    samples = swapped(count, seed)
    pictures = [sample.images for sample in samples]
    return tuple(
        replace(sample, id=f"{number}", images=images)
        for number, (sample, images) in enumerate(zip(samples, pictures[2:] + pictures[:2], strict=True))
    )


def labelled_objects(text: str, there: Sequence[Kind]) -> tuple[tuple[int, int, int], ...]:
    """(start, end, label) of the objects that a caption names: 1 where the kind is in the picture."""
    return tuple(
        (found.start(), found.end(), int(Kind(found[1], found[2]) in there)) for found in _OBJECT.finditer(text.lower())
    )
