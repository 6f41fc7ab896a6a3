"""Run folders as the commands write them, made without a model."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sightline.knockout.result import ImpactMap
from sightline.knockout.source import Source
from sightline.pages.pictures import keep_thumbnails, thumbnails
from sightline.probes.dominance import LayerMass, MapGrid, SampleDominance, SampleMaps, aggregate

PROMPT = ["<s>", "user", ":", "is", "there", "a", "red", "circle", "?", "assistant", ":"]
ANSWER = ["yes", ",", "a", "red", "circle"]
LAYERS, HEADS, SIDE = 8, 4, 6
SINK = (2, 3)
"""Row and column of the patch that is a sink from layer 2 on."""

AWKWARD = [
    "</script><img src=x onerror=alert(1)>",
    "<b>bold</b> & \"quoted\" 'single'",
    "\x00\x01\x1b[31m",
    "שלום עולם",
    "👩‍👩‍👧‍👦",
    "\ud800",
    "\u2028\u2029",
    "",
]
"""Words that a page must show as they are."""


def picture(seed: int = 0, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A drawing."""
    rng = random.Random(seed)
    image = Image.new("RGB", size, (236, 234, 228))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        left, top = rng.randrange(size[0] - 40), rng.randrange(size[1] - 40)
        draw.ellipse((left, top, left + 34, top + 34), fill=tuple(rng.randrange(30, 220) for _ in range(3)))
    return image


def sample_maps(seed: int = 0, words: int = len(ANSWER), side: int = SIDE, layers: int = LAYERS) -> SampleMaps:
    """Attention that walks over the picture from word to word; one sink, of which the largest share is."""
    rng = np.random.default_rng(seed)
    texts, patches = len(PROMPT), side * side
    values = rng.gamma(0.6, 1.0, (words, layers, HEADS, texts + patches)).astype(np.float32)
    for word in range(words):
        values[word, :, :, texts + (word * 7) % patches] += 12
    sink = texts + SINK[0] * side + SINK[1]
    values[:, 2:, :, sink] += 60
    values /= values.sum(-1, keepdims=True) * 1.05
    sinks = np.zeros((layers, texts + patches), dtype=np.bool_)
    sinks[:, 0] = True
    sinks[2:, sink] = True
    grid = MapGrid("image", 0, texts + np.arange(patches).reshape(side, side), (0.0, 0.0, 1.0, 1.0))
    head_grid = MapGrid("image", 0, np.arange(patches).reshape(side, side), (0.0, 0.0, 1.0, 1.0))
    mean, heads = values.mean(2), values[:, :, :, texts:]
    return SampleMaps(
        tuple(range(layers)), tuple(range(texts)), (grid,), mean, heads, (head_grid,), sinks, has_sinks=True
    )


def kept(seed: int = 0, words: list[str] | None = None, **sizes: int) -> dict[str, Any]:
    """What `measure` keeps of a sample."""
    words = ANSWER if words is None else words
    return sample_maps(seed, len(words), **sizes).to_dict() | {
        "question": f"Is there a red circle in picture {seed}?",
        "truth": "yes",
        "words": [[word, False] for word in words],
        "prompt": [[word, False] for word in PROMPT],
        "grounding": [None if number + 1 == len(words) else number / 8 for number in range(len(words))],
        "images": thumbnails([picture(seed)]),
    }


def dominance(seed: int) -> SampleDominance:
    """Masses that differ from sample to sample."""
    rng = random.Random(seed)
    layers = []
    for layer in range(LAYERS):
        text = 0.3 + 0.06 * layer + 0.05 * rng.random()
        layers.append(LayerMass(layer, {"text": text, "image": 0.95 - text, "text_sinks": 0.1}))
    return SampleDominance("generated", 5, {"text": 11, "image": 36, "text_sinks": 1}, tuple(layers))


def write_run(folder: Path, command: str, settings: dict[str, Any], lines: list[dict[str, Any]], summary: Any) -> Path:
    """run.json, samples.jsonl and, unless None, summary.json."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "command": command,
        "settings": settings,
        "info": {"device": "cpu", "limit": 60, "path": None, "fields": {}},
        "versions": {"python": "3.11", "torch": "2.13"},
        "started": "2026-11-21T08:00:00+0000",
    }
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_measure(
    folder: Path,
    count: int = 4,
    method: str | None = None,
    has_maps: bool = True,
    is_finished: bool = True,
    model: str = "tiny-llava",
    words: list[str] | None = None,
    **sizes: int,
) -> Path:
    """A run of `measure`, with a method beside none where one is given."""
    lines, documents = [], []
    for name in ["none", *([method] if method else [])]:
        found = []
        for number in range(count):
            found.append(dominance(number + (100 if name != "none" else 0)))
            result: dict[str, Any] = {"text": " ".join(words or ANSWER), "dominance": found[-1].to_dict()}
            if has_maps:
                result["maps"] = kept(number + (50 if name != "none" else 0), words, **sizes)
            lines.append({"id": f"s-{number}", "model": model, "method": name, "result": result, "seconds": 0.1})
        documents.append(aggregate(found, model=model).to_dict() | {"method": name})
    summary = documents[-1] | ({"baseline": documents[0]} if method else {})
    return write_run(folder, "measure", {"models": [model], "seed": 0}, lines, summary if is_finished else None)


def write_impact(folder: Path) -> Path:
    """A run of `impact` of one prompt."""
    rng = np.random.default_rng(0)
    tokens = [Source((place,), word) for place, word in enumerate(PROMPT)]
    for row in range(SIDE):
        for col in range(SIDE):
            box = (col / SIDE, row / SIDE, (col + 1) / SIDE, (row + 1) / SIDE)
            tokens.append(Source((20 + row * SIDE + col,), "", "image", 0, row, col, grid=0, box=box))
    values = rng.normal(0, 1, (LAYERS, len(tokens)))
    values[0, 0] = np.nan
    baseline = {"token": 5, "text": "yes", "logit": 1.0, "prob": 0.7, "logprob": -0.3}
    found = ImpactMap(
        "tiny-llava", "causal", 56, tuple(range(LAYERS)), tuple(tokens), {"logprob": values, "kl": values**2}, baseline
    )
    document = found.to_dict() | {"prompt": "Is there a red circle?"}
    write_run(folder, "impact", {"model": "tiny-llava"}, [], json.loads(json.dumps(document, default=str)))
    line = {"id": "1", "model": "tiny-llava", "result": {"folder": "."}}
    (folder / "samples.jsonl").write_text(json.dumps(line) + "\n")
    (folder / "impact.json").write_text(json.dumps(document))
    keep_thumbnails([picture(3)], folder)
    return folder


def write_sinks(folder: Path) -> Path:
    """A run of `sinks`."""
    layers = [
        {
            "layer": layer,
            "image_sinks": 1.0 + layer,
            "text_sinks": 1.0,
            "attended": 2.0,
            "precision": 0.8,
            "recall": 0.5,
        }
        for layer in range(2, LAYERS)
    ]
    document = {
        "model": "tiny-llava", "dims": [3, 17], "tau": 4.0, "gap": 0.5, "precision": 0.8, "recall": 0.5,
        "candidates": [{"dim": 3, "score": 0.9}], "layers": layers, "samples": 8, "failed": 0, "factor": 3.0,
    }  # fmt: skip
    line = {"id": "a", "model": "tiny-llava", "method": "survey", "result": {}}
    return write_run(folder, "sinks", {"models": ["tiny-llava"]}, [line], document)


def write_eval(folder: Path) -> Path:
    """A run of `eval` on the bundled benchmark."""
    methods = ["none", "pai"]
    lines = [
        {"id": f"random/{number + 1}", "model": "tiny-llava", "method": name,
         "result": {"response": "yes" if (number + (name == "pai")) % 2 else "no", "tokens": 2}}
        for name in methods for number in range(4)
    ]  # fmt: skip
    told = {"n": 4, "accuracy": 0.5, "accuracy_ci95": [0.2, 0.8], "failed": 0, "f1": None, "seconds_per_item": 0.1}
    pair = {"a": "none", "b": "pai", "delta": 0.1, "ci95": [-0.1, 0.3], "p_value": 0.6, "flips": [1, 2], "n": 4}
    document = {
        "model": "tiny-llava", "bench": "shapes-pope", "n": 4, "headline": "accuracy", "better": "larger",
        "methods": dict.fromkeys(methods, told), "paired": [pair], "parser": "official",
    }  # fmt: skip
    return write_run(folder, "eval", {"bench": "shapes-pope", "seed": 0}, lines, document)


def write_training(folder: Path) -> Path:
    """A folder of `train`; the last line of its log is torn."""
    folder.mkdir(parents=True)
    (folder / "training.json").write_text(json.dumps({"settings": {"steps": 40}, "about": {"model": "tiny-llava"}}))
    lines = [json.dumps({"step": step, "loss": 3.0 / (step + 1), "ground": 0.5}) for step in range(40)]
    (folder / "log.jsonl").write_text("\n".join([*lines, '{"step": 41, "lo']))
    return folder
