"""What the grounding loss does: the same steps from `tiny-llava-early` with and without each of its terms, five seeds.

    python recipes/grounding/evidence.py --tune              # forms of the loss, on the validation seed alone
    python recipes/grounding/evidence.py                     # the arms, five seeds each; goes on where it stopped
    python recipes/grounding/evidence.py --only-seeds 3 4    # a share of them, as for a second process
    python recipes/grounding/evidence.py --render            # only gathers the numbers and writes the tables

Each finished run is one line of work/runs.jsonl (work/tune.jsonl), written as soon as it is done. Every arm of a seed
sees the same samples in the same order, but for `questions`, which has more of them.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measures import Judge
from scipy.stats import t as student

import sightline as sl
from sightline.data.training_files import DrawnImage, TrainingSample, shapes_training
from sightline.training.settings import TrainSettings
from sightline.training.trainer import train
from sightline.zoo import questions as ask
from sightline.zoo.world import draw_scene

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
WORK = HERE / "work"
RESULTS = ROOT / "benchmarks" / "results" / "grounding_evidence.json"
PAGE = ROOT / "docs" / "grounding_evidence.md"
sys.path.append(str(ROOT / "benchmarks"))
from common import machine  # noqa: E402
from detection import fill  # noqa: E402

MODEL = "tiny-llava-early"
STEPS, BATCH = 80, 16

PLAIN = TrainSettings(
    loss="none",
    negatives="none",
    contrast_weight=0.0,
    steps=STEPS,
    batch_size=BATCH,
    learning_rate=2e-4,
    warmup=10,
    save_steps=0,
    eval_limit=0,
    log_steps=10,
)
TUNING_SEED, SEEDS = 100, (0, 1, 2, 3, 4)
TUNING = Judge(seed=900, questions=300, captions=150, words=100)
FINAL = Judge(seed=77, questions=450, captions=150, words=40)

MARGIN = {"loss": "margin"}
CONTRAST = {"negatives": "contrast", "contrast_weight": 0.1}
LABELS: dict[str, Any] = {"loss": "bce", "negatives": "labels", "weight": 1.0, "margin": 0.3}
ARMS: dict[str, dict[str, Any]] = {
    "start": {"steps": 0, "epochs": 1.0},
    "language": {},
    "margin": MARGIN,
    "contrast": CONTRAST,
    "published": MARGIN | CONTRAST,
    "labels": LABELS,
    "all": LABELS | {"negatives": "both", "contrast_weight": 0.1},
    "questions": {"batch_size": 0},
}
"""What each arm changes; a batch size of 0 stands for one that holds the added questions too."""

BASE = "language"

FORMS: dict[str, dict[str, Any]] = {
    name: {**changes, "steps": 80}
    for name, changes in {
        "language loss alone": {},
        "- at half the rate": {"learning_rate": 1e-4},
        "margin and contrast, as published": MARGIN | CONTRAST,
        "bce labels, last four layers": LABELS,
        "bce labels, all layers": LABELS | {"layers": "all"},
        "bce labels, layers 3 to 5": LABELS | {"layers": "3+4+5"},
        "bce labels, last four, image features detached": LABELS | {"detach_image": True},
        "bce labels, last four, linear projection": LABELS | {"projection": "linear"},
        "bce labels, last four, weight 4": LABELS | {"weight": 4.0},
        "bce labels, last four, weighted by attention": LABELS | {"kind": "attention", "renormalise": True},
    }.items()
}
"""What was tried on the validation seed, at 80 steps."""


def settings_of(changes: Mapping[str, Any], seed: int) -> TrainSettings:
    """The plain settings, with what an arm changes."""
    return replace(PLAIN, seed=seed, **changes)


def data(seed: int, steps: int, has_questions: bool) -> list[TrainingSample]:
    """As many samples as the steps take, each seen once; `has_questions` puts to words what the negatives tell.

    For each sample with a false caption that names an absent object, one question: whether that object is there, or
    whether one that is there is, in turn.
    """
    samples = list(shapes_training(steps * BATCH, 1000 + seed))
    rng = random.Random(f"questions/{seed}")
    added: list[TrainingSample] = []
    for sample in samples if has_questions else ():
        image = sample.images[0]
        scene = draw_scene(image.scene if isinstance(image, DrawnImage) else 0)
        absent = [kind for kind in ask.mentioned(sample.negative or "") if kind not in scene.kinds]
        if absent:
            asked = ask.existence(scene, absent[0] if len(added) % 2 else rng.choice(scene.kinds))
            added.append(TrainingSample(f"{sample.id}-asked", sample.images, asked.prompt, asked.answer))
    return samples + added


def run(name: str, changes: Mapping[str, Any], seed: int, judge: Judge, file: Path) -> None:
    """One training and what is found out about it, unless the file has it already."""
    samples = data(seed, changes.get("steps", STEPS), changes.get("batch_size") == 0)
    if changes.get("batch_size") == 0:
        settings = settings_of({**changes, "batch_size": -(-len(samples) // STEPS)}, seed)
    else:
        settings = settings_of(changes, seed)
    key = {"arm": name, "seed": seed, "changes": dict(changes), "steps": settings.steps, "judge": vars(judge)}
    if any(line["key"] == key for line in read(file)):
        return
    began = time.process_time()
    vlm = sl.load(MODEL, device="cpu")
    log: dict[str, float] = {}
    if settings.steps:
        with tempfile.TemporaryDirectory() as out:
            result = train(vlm, samples, settings, Path(out) / "model")
        log = {term: found["last"] for term, found in result.losses.items()}
    trained = time.process_time()
    figures = judge(vlm)
    ended = time.process_time()
    line = {"key": key, "figures": figures, "losses": log, "seconds": [trained - began, ended - trained]}
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as out_file:
        out_file.write(json.dumps(line) + "\n")
    print(name, seed, {k: round(v, 3) for k, v in (figures | log).items()}, line["seconds"], flush=True)


def read(file: Path) -> list[dict[str, Any]]:
    """The finished runs; a torn last line is none."""
    lines = []
    for text in file.read_text().splitlines() if file.is_file() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true", help="try forms of the loss on the validation seed")
    parser.add_argument("--only-seeds", type=int, nargs="+", default=SEEDS, metavar="SEED")
    parser.add_argument("--only-arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--render", action="store_true", help="only gather and write the tables")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.tune:
        for name, changes in FORMS.items():
            run(name, changes, TUNING_SEED, TUNING, WORK / "tune.jsonl")
    elif not options.render:
        for seed in options.only_seeds:
            for name in options.only_arms:
                if ARMS[name].get("steps", STEPS) or seed == SEEDS[0]:
                    run(name, ARMS[name], seed, FINAL, WORK / "runs.jsonl")
    gather()
    if RESULTS.is_file() and PAGE.is_file():
        render(json.loads(RESULTS.read_text()))


# The tables -----------------------------------------------------------------------------------------------------------

TITLES = {
    "start": "before training",
    "language": "**language loss alone**",
    "margin": "+ margin, as published",
    "contrast": "+ contrast, as published",
    "published": "**+ margin and contrast, as published**",
    "labels": "**+ labels (bce)**",
    "all": "+ labels and contrast",
    "questions": "- what the negatives tell, as yes/no questions",
}
BENCHES = {
    "pope_random": "POPE random",
    "pope_popular": "popular",
    "pope_adversarial": "adversarial",
    "pope_auroc": "AUROC of yes",
    "yes_ratio": "yes ratio",
    "chair_s": "CHAIRs",
    "chair_s_sampled": "CHAIRs, T = 1",
    "chair_i_sampled": "CHAIRi, T = 1",
    "recall_sampled": "recall, T = 1",
}
READINGS = {
    "mdi_early": "MDI early",
    "mdi_middle": "middle",
    "mdi_late": "late",
    "auroc_swapped_last4": "AUROC of g, swapped",
    "auroc_wrong_image": "the same, wrong image",
    "auroc_said_last4": "AUROC of g, said",
    "auroc_said_probability": "of the log-probability, said",
}


def render(document: Mapping[str, Any]) -> None:
    """The tables, between the marks of the page."""
    runs: dict[str, dict[int, dict[str, float]]] = {}
    for line in document["runs"]:
        runs.setdefault(line["key"]["arm"], {})[line["key"]["seed"]] = line["figures"]
    if not runs:
        return
    fewest = min(len(found) for arm, found in runs.items() if arm != "start")
    versions = f"torch {document['torch']}, transformers {document['transformers']}, {document['date']}"
    about = f"{versions}; {fewest} seeds an arm."
    fill(PAGE, "benches", _means(runs, BENCHES, 100) + f"\n\n{about}")
    fill(PAGE, "benches paired", _differences(runs, BENCHES, 100))
    fill(
        PAGE,
        "confound",
        _differences({arm: runs[arm] for arm in ("labels", "all") if arm in runs}, BENCHES, 100, "questions", runs),
    )
    fill(PAGE, "readings", _means(runs, READINGS, 1))
    fill(PAGE, "readings paired", _differences(runs, READINGS, 1))
    if document["tuning"]:
        fill(PAGE, "tuning", _tuning(document["tuning"]))


Runs = Mapping[str, Mapping[int, Mapping[str, float]]]


def _means(runs: Runs, names: Mapping[str, str], scale: float) -> str:
    lines = _header("mean over seeds, 95% interval", names.values())
    for arm, title in TITLES.items():
        if arm in runs:
            cells = [_interval([run[name] * scale for run in runs[arm].values()], scale) for name in names]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _differences(
    runs: Runs, names: Mapping[str, str], scale: float, against: str = BASE, among: Runs | None = None
) -> str:
    """To another arm, paired over the seeds that both have; bold where the interval leaves 0 out."""
    lines = _header(f"minus {TITLES[against].strip('*- ')}", names.values())
    base = (among or runs).get(against, {})
    for arm, title in TITLES.items():
        both = [seed for seed in runs.get(arm, {}) if seed in base]
        if arm in ("start", against) or not both:
            continue
        cells = []
        for name in names:
            gaps = [(runs[arm][seed][name] - base[seed][name]) * scale for seed in both]
            cell = _interval(gaps, scale, "+")
            cells.append(f"**{cell}**" if len(gaps) > 1 and abs(statistics.mean(gaps)) > _half(gaps) else cell)
        lines.append(f"| {title.replace('*', '')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _header(first: str, names: Iterable[str]) -> list[str]:
    columns = [first, *names]
    return ["| " + " | ".join(columns) + " |", "|---|" + "---|" * (len(columns) - 1)]


def _half(values: Sequence[float]) -> float:
    """Half the 95% interval of a mean, by Student's t."""
    count = len(values)
    return float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / count**0.5


def _interval(values: Sequence[float], scale: float, sign: str = "") -> str:
    digits = 1 if scale == 100 else 2
    told = f"{statistics.mean(values):{sign}.{digits}f}"
    return f"{told} ± {_half(values):.{digits}f}" if len(values) > 1 else told


def _tuning(lines: Sequence[Mapping[str, Any]]) -> str:
    names = {
        "pope": "POPE, mean",
        "pope_auroc": "AUROC of yes",
        "chair_s_sampled": "CHAIRs, T = 1",
        "recall_sampled": "recall, T = 1",
        "auroc_swapped_last4": "AUROC of g, swapped",
    }
    told = _header("one seed, 80 steps", names.values())
    for form in FORMS:
        for line in lines:
            if line["key"]["arm"] == form:
                told.append(f"| {form} | " + " | ".join(f"{100 * line['figures'][name]:.1f}" for name in names) + " |")
    return "\n".join(told)


def gather() -> None:
    """All finished runs of the present settings into one document."""
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    runs = [
        line
        for line in read(WORK / "runs.jsonl")
        if line["key"]["judge"] == vars(FINAL) and ARMS.get(line["key"]["arm"]) == line["key"]["changes"]
    ]
    tune = [line for line in read(WORK / "tune.jsonl") if line["key"]["judge"] == vars(TUNING)]
    if not runs and not tune:
        return
    settings = {"model": MODEL, "steps": STEPS, "batch": BATCH, "plain": vars(PLAIN), "arms": ARMS}
    document = {"benchmark": "grounding_evidence", **machine("cpu"), "settings": settings}
    document |= {"runs": runs or known.get("runs", []), "tuning": tune or known.get("tuning", [])}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
