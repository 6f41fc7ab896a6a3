"""How well grounding scores, GLSim, attention and probability tell hallucinated objects on the bundled models.

    python recipes/grounding/detection.py            # some minutes of one core; goes on where it stopped
    python recipes/grounding/detection.py --render   # only writes the tables of docs/grounding_evidence.md

Three settings: captions as the model says them, greedily and at temperature 1, and captions put into its mouth, true
ones and such with one object swapped. Results stand in benchmarks/results/grounding_detection.json, one entry a
setting, written as soon as it is done; those of the same settings are not measured again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measures import SAMPLED, drawn, label, picture, swapped

import sightline as sl
from sightline.data.training_files import TrainingSample
from sightline.probes.detection.detect import Detection, captioned, evaluate_detectors
from sightline.probes.detection.glsim import GLSim
from sightline.stats import auroc, auroc_interval
from sightline.zoo import questions as ask
from sightline.zoo.world import draw_scene

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "benchmarks"))
from common import machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "grounding_detection.json"
PAGE = ROOT / "docs" / "grounding_evidence.md"
SEED = 31
"""Of scenes that are drawn for this table alone."""

FORM = 2
"""Of what is kept; another is measured anew."""

EVERY_PATCH = GLSim(patches=32)


@dataclass(frozen=True)
class Setting:
    """One column of the table. said: how the captions come about; count: scenes."""

    name: str
    model: str
    said: str
    count: int


SETTINGS = (
    Setting("early, greedy", "tiny-llava-early", "greedy", 1200),
    Setting("early, T = 1", "tiny-llava-early", "sampled", 400),
    Setting("early, swapped", "tiny-llava-early", "swapped", 400),
    Setting("trained, swapped", "tiny-llava", "swapped", 400),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="only write the tables")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    document = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for setting in () if options.render else SETTINGS:
        about = {**vars(setting), "seed": SEED, "form": FORM}
        if document.get("settings", {}).get(setting.name, {}).get("about") == about:
            continue
        began = time.process_time()
        found = {"about": about, **_measured(setting), "processor_seconds": time.process_time() - began}
        document = {"benchmark": "grounding_detection", **machine("cpu"), "settings": document.get("settings", {})}
        document["settings"][setting.name] = found
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        print(setting.name, found["hallucinated"], f"{found['processor_seconds']:.0f} s", flush=True)
    render(document)


def _measured(setting: Setting) -> dict[str, Any]:
    vlm = sl.load(setting.model, device="cpu")
    samples = list(swapped(setting.count, SEED)) if setting.said == "swapped" else _said(vlm, setting)
    found = evaluate_detectors(vlm, samples)
    told = found.to_dict()
    told["captions"] = len(samples)
    told["differences"] = {
        f"{name} - {other}": _difference(found, name, other)
        for name in ("grounding last4", "grounding layer 0")
        for other in ("glsim, before", "glsim", "log-probability", "entropy")
    }
    told["parts"] = _parts(found, samples)
    if setting.count <= 400:
        wide = evaluate_detectors(vlm, samples, glsim=EVERY_PATCH, resamples=500)
        told["glsim_32_of_36"] = {
            name: {"auroc": detector.auroc, "ci95": detector.ci95}
            for name, detector in wide.detectors.items()
            if name.startswith("glsim")
        }
    return told


def _parts(found: Detection, samples: list[TrainingSample]) -> dict[str, Any]:
    """AUROC against hallucinated objects of two sorts apart.

    Paired wrongly: its colour is in the picture and its shape is, on different objects. Absent: one of them is nowhere.
    """
    paired = np.array([_is_paired(sample, word) for sample in samples for word in sample.labelled])
    known = found.signals
    parts: dict[str, Any] = {}
    for name, sort in (("paired wrongly", paired), ("absent", ~paired)):
        kept = (known.labels > 0) | sort
        wrong = int((known.labels[kept] == 0).sum())
        if wrong:
            parts[name] = {"hallucinated": wrong, "detectors": {}}
            for detector in found.detectors:
                values, labels = known.values[detector][kept], known.labels[kept]
                _, images = np.unique(known.images[kept], return_inverse=True)
                ci95 = auroc_interval(values, labels, images, 1000) if " layer " not in detector else None
                parts[name]["detectors"][detector] = {"auroc": auroc(values, labels), "ci95": ci95}
    return parts


def _is_paired(sample: TrainingSample, word: tuple[int, int, int]) -> bool:
    colour, shape = sample.answer[word[0] : word[1]].lower().split()
    scene = draw_scene(sample.images[0].scene)  # type: ignore[union-attr]
    return scene.count(colour=colour) > 0 and scene.count(shape=shape) > 0


def _difference(found: Detection, name: str, other: str) -> dict[str, Any]:
    delta, interval = found.difference(name, other)
    return {"delta": delta, "ci95": list(interval)}


def _said(vlm: Any, setting: Setting) -> list[TrainingSample]:
    """What the model says of fresh scenes, its objects labelled."""
    scenes = drawn(setting.count, "detection", SEED)
    asked = [
        TrainingSample(str(number), picture(scene), ask.CAPTION_PHRASES[0], "") for number, scene in enumerate(scenes)
    ]
    torch.manual_seed(SEED)
    how = SAMPLED if setting.said == "sampled" else {}
    return captioned(vlm, asked, label, new_tokens=48, batch=100, **how)


# The tables -----------------------------------------------------------------------------------------------------------

ROWS: tuple[tuple[str, str], ...] = (
    ("grounding last4", "**grounding, last four layers**"),
    ("grounding all", "grounding, all layers"),
    ("grounding layer 0", "grounding, first layer"),
    ("grounding layer 7", "grounding, last layer"),
    ("grounding last4, before", "grounding, last four, at the position before"),
    ("attention-weighted last4", "grounding weighted by attention, last four"),
    ("glsim, before", "**GLSim** as published, K = 2 of 36"),
    ("glsim global, before", "- its global part"),
    ("glsim local, before", "- its local part"),
    ("glsim", "GLSim at the word's own position"),
    ("glsim local", "- its local part"),
    ("attention mass", "**attention on the image**, all layers"),
    ("attention mass, before", "- at the position before"),
    ("lens", "logit lens: largest probability of a patch"),
    ("log-probability", "**log-probability of the word**"),
    ("entropy", "entropy of the prediction, negated"),
)


SORTED = {
    "grounding last4",
    "grounding layer 0",
    "glsim, before",
    "attention mass",
    "lens",
    "log-probability",
    "entropy",
}


def render(document: dict[str, Any]) -> None:
    """The tables, between the marks of the page."""
    if document.get("settings") and PAGE.is_file():
        fill(PAGE, "detection", _table(document))
        fill(PAGE, "parts", _sorts(document))
        fill(PAGE, "layers", _layers(document))
        fill(PAGE, "wide", _wide(document))


def fill(page: Path, name: str, text: str) -> None:
    """Put a text between its marks."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    if begin:
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        page.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")


def _columns(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [document["settings"][setting.name] for setting in SETTINGS if setting.name in document["settings"]]


def _head(document: dict[str, Any], first: str) -> list[str]:
    columns = _columns(document)
    names = [found["about"]["name"] for found in columns]
    counts = [f"{found['hallucinated']} of {found['grounded'] + found['hallucinated']}" for found in columns]
    return [
        "| " + " | ".join([first, *names]) + " |",
        "|---|" + "---|" * len(columns),
        "| hallucinated objects | " + " | ".join(counts) + " |",
    ]


def _cell(found: dict[str, Any]) -> str:
    if found["ci95"] is None:
        return f"{found['auroc']:.2f}"
    low, high = found["ci95"]
    return f"{found['auroc']:.2f} ({low:.2f} to {high:.2f})"


def _table(document: dict[str, Any]) -> str:
    columns = _columns(document)
    about = f"torch {document['torch']}, transformers {document['transformers']}, {document['date']}."
    lines = [
        f"| {title} | " + " | ".join(_cell(column["detectors"][name]) for column in columns) + " |"
        for name, title in ROWS
    ]
    return "\n".join([*_head(document, "AUROC (95% interval)"), *lines, "", about])


def _sorts(document: dict[str, Any]) -> str:
    """Against each sort of hallucinated objects, where a setting has both."""
    columns = [(found, part) for found in _columns(document) for part in found["parts"]]
    names = [f"{found['about']['name']}: {part}" for found, part in columns]
    counts = [str(found["parts"][part]["hallucinated"]) for found, part in columns]
    lines = [
        "| " + " | ".join(["AUROC (95% interval)", *names]) + " |",
        "|---|" + "---|" * len(columns),
        "| hallucinated objects | " + " | ".join(counts) + " |",
    ]
    for name, title in ROWS:
        if name in SORTED:
            cells = [_cell(found["parts"][part]["detectors"][name]) for found, part in columns]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _wide(document: dict[str, Any]) -> str:
    columns = [found for found in _columns(document) if "glsim_32_of_36" in found]
    lines = [
        "| AUROC (95% interval) | " + " | ".join(found["about"]["name"] for found in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, title in ROWS:
        if name.startswith("glsim") and "global" not in name:
            cells = [_cell(found["glsim_32_of_36"][name]) for found in columns]
            lines.append(f"| {title.replace('K = 2', 'K = 32')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _layers(document: dict[str, Any]) -> str:
    columns = _columns(document)
    names = [name for name in columns[0]["detectors"] if re.fullmatch(r"grounding layer \d+", name)]
    lines = [
        f"| {name.rpartition(' ')[2]} | " + " | ".join(_cell(column["detectors"][name]) for column in columns) + " |"
        for name in names
    ]
    return "\n".join([*_head(document, "g after layer"), *lines])


if __name__ == "__main__":
    main()
