"""The whole story on the bundled models: each step is a job, and says in a line what it found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.files.json import json_text, write_atomically
from sightline.jobs.demo_scenes import CAPTIONS, Question, false_captions, find_question, score_caption
from sightline.jobs.evaluate import evaluate
from sightline.jobs.find_sinks import find_sinks
from sightline.jobs.impact import impact
from sightline.jobs.measure import measure
from sightline.jobs.models import load_model
from sightline.jobs.report import PAGE_FILE, report
from sightline.jobs.settings import ModelSettings
from sightline.results.table import Section, Table
from sightline.runs.description import RUN_FILE, described
from sightline.runs.folder import SUMMARY_FILE, Run
from sightline.runs.progress import OnProgress
from sightline.text import mean_std, number

MODEL, TO_MEND, REMEDY = "tiny-llava", "tiny-llava-early", "vcd"
"""The trained model; the half-trained one that says yes too often and invents objects; and what helps it."""

FOLDERS = ("measure", "sinks", "eval", "impact")
"""The run folders, in the order of the steps."""

BESIDE = ("yes_ratio", "recall")
"""Figures that tell a gain bought by saying yes more often, or by naming less, from one that is none of these."""

SINK_SCENES = 12
DETECTOR = "grounding last4"
"""As `sightline.probes.detection.detect` names the default scores of `Grounding`."""


@dataclass
class Demo:
    """One demo.

    limit        scenes that are measured
    items        benchmark questions, at most
    show         is called with what each step found
    on_progress  is called as a step goes on
    """

    settings: ModelSettings
    out: Path
    limit: int
    items: int
    show: Callable[[Section], None]
    on_progress: OnProgress | None = None

    def run(self) -> dict[str, Any]:
        """All steps; the document is that of `measure` with those of the others beside."""
        begin_anew(self.out)
        measured = self._measure()
        sinks = self._sinks()
        evaluated = self._evaluate()
        question = find_question(self.settings.seed)
        impact = self._impact(question)
        grounding = self._grounding(question)
        document = measured | {
            "command": "demo",
            "sinks": sinks,
            "evaluations": evaluated,
            "impact": {name: value for name, value in impact.items() if name != "maps"},
            "grounding": grounding,
        }
        document["report"] = self._report()
        write_atomically(self.out / SUMMARY_FILE, json_text(document, indent=2))
        return document

    # Steps ----------------------------------------------------------------------------------------------------------

    def _measure(self) -> dict[str, Any]:
        folder = self.out / "measure"
        command = f"measure {MODEL} --data shapes --limit {self.limit} --out {folder}"
        self._begin("1  Does it look at the image?", command)
        document: dict[str, Any] = measure(MODEL, "shapes", limit=self.limit, out=folder, **self._shared()).to_dict()
        rows = [
            (
                f"{name}, layers {', '.join(map(str, stage['layers']))}",
                mean_std(stage["mdi"], stage["mdi_std"]),
                number(stage["mdi_no_sinks"]),
                mean_std(stage["aei"], stage["aei_std"]),
            )
            for name, stage in document["stages"].items()
        ]
        self.show(Table("", ("stage", "MDI", "MDI without sinks", "AEI"), rows))
        late = document["stages"]["late"]["mdi"]
        if late is not None:
            self._found(
                f"Where the answer is made (late), a text token draws {late:.2f} times the attention of an image token "
                f"(MDI): {'text' if late > 1 else 'the image'} dominates."
            )
        return document

    def _sinks(self) -> dict[str, Any]:
        scenes, folder = min(SINK_SCENES, self.limit), self.out / "sinks"
        command = f"sinks {MODEL} --data shapes --limit {scenes} --out {folder}"
        self._begin("2  Is some of that attention wasted on sinks?", command)
        document = find_sinks(MODEL, "shapes", limit=scenes, out=folder, **self._shared()).to_dict()
        if document["dims"]:
            dims = ", ".join(map(str, document["dims"]))
            self._found(f"Sinks by dimensions {dims}, precision {number(document['precision'])} against attention.")
        else:
            best = "".join(
                f" (the best candidate, {entry['dim']}, scores {entry['score']:.2f})"
                for entry in document["candidates"][:1]
            )
            self._found(f"No: no dimension marks a sink{best}; VAR, which takes from sinks, has nothing to take here.")
        return document

    def _evaluate(self) -> list[dict[str, Any]]:
        folder, benches, methods = self.out / "eval", ("shapes-pope", "shapes-chair"), ("none", REMEDY)
        words = " ".join([*(f"--bench {name}" for name in benches), *(f"--method {name}" for name in methods)])
        self._begin(
            "3  Can it be mended? A half-trained model that invents objects, with and without a method",
            f"eval {TO_MEND} {words} --limit {self.items} --batch-size 32 --out {folder}",
        )
        settings: dict[str, Any] = {"limit": self.items, "batch_size": 32, "out": folder}
        found: list[dict[str, Any]] = evaluate(TO_MEND, benches, methods, **settings, **self._shared()).to_dict()[
            "evaluations"
        ]
        for each in found:
            self._found(_compared(each))
        return found

    def _impact(self, question: Question) -> dict[str, Any]:
        picture, folder = self.out / "scene.png", self.out / "impact"
        self._begin(
            "4  Where does an answer come from? Parts of the picture cut from every row, layer by layer",
            f"impact {MODEL} --image {picture} --prompt '{question.prompt}' --scope every-row --tokens image --block 2 "
            f"--out {folder}",
        )
        self.out.mkdir(parents=True, exist_ok=True)
        if not picture.exists():
            question.picture.save(picture)
        sample = Sample(question.prompt, (picture,), id="1")
        cut: dict[str, Any] = {"scope": "every-row", "tokens": "image", "block": 2, "out": folder}
        document: dict[str, Any] = impact(MODEL, sample, **cut, **self._shared()).to_dict()
        self._found(_strongest(document, question))
        return document

    def _grounding(self, question: Question) -> dict[str, Any]:
        from sightline.probes.detection.detect import evaluate as detect

        self.show("\n5  Which words are tied to the image?")
        self.show("   with sl.Grounding().on(vlm) as probe: vlm.generate(inputs)")
        vlm = load_model(MODEL, self.settings)
        tokens = score_caption(vlm, question)
        count = min(CAPTIONS, self.items)
        detection = detect(vlm, false_captions(count, self.settings.seed), seed=self.settings.seed)
        words = ", ".join(
            f"{each.text.strip()} {each.score:.2f}"
            for each in tokens
            if each.score is not None and each.text.strip().isalpha()
        )
        self._found(f"Its caption of that scene, each word's cosine to its nearest patch: {words}.")
        detector = detection[DETECTOR]
        low, high = detector.ci95 or (detector.auroc, detector.auroc)
        verdict = "the scores tell them apart" if low > 0.5 else "the scores do not tell them apart"
        self._found(
            f"An object exchanged for an absent one in {count} captions: {verdict} (AUROC {detector.auroc:.2f}, "
            f"95% interval {low:.2f} to {high:.2f}; 0.50 is chance)."
        )
        return {
            "caption": [each.to_dict() for each in tokens],
            "auroc": detector.auroc,
            "auroc_ci95": [low, high],
            "captions": count,
        }

    def _report(self) -> str:
        page, folders = self.out / PAGE_FILE, [self.out / name for name in FOLDERS]
        self._begin("6  All of it on one page", f"report {' '.join(map(str, folders))} --out {page}")
        found = report(folders, page)
        self._found(f"{found.path}, {found.size / 1e6:.1f} MB, everything in the one file.")
        return str(found.path)

    def _shared(self) -> dict[str, Any]:
        return {each.name: getattr(self.settings, each.name) for each in fields(self.settings)} | {
            "on_progress": self.on_progress
        }

    def _begin(self, title: str, command: str) -> None:
        """The step's title, and the command that does the same."""
        default = ModelSettings()
        given = {each.name: getattr(self.settings, each.name) for each in fields(default)}
        changed = [f"--{name} {value}" for name, value in given.items() if value != getattr(default, name)]
        self.show(f"\n{title}")
        self.show("   " + " ".join(["sightline", command, *(changed if not command.startswith("report") else [])]))

    def _found(self, text: str) -> None:
        self.show(f"-> {text}")


def begin_anew(folder: Path) -> None:
    """Clears a demo that is over, so that each shows the work and not yesterday's; one that was interrupted goes on."""
    if not _is_over(folder):
        return
    for place in (folder / name for name in FOLDERS):
        for run_file in [place / RUN_FILE, *place.glob(f"*/{RUN_FILE}")]:
            try:
                about = described(run_file.parent)
            except InputError:
                continue  # damaged: nobody writes there
            with Run.open(run_file.parent, about["command"], about["settings"]):
                pass  # refused while another process writes there
        if (place / SUMMARY_FILE).exists():
            shutil.rmtree(place)
    (folder / SUMMARY_FILE).unlink()


def _is_over(folder: Path) -> bool:
    try:
        told: Any = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        return bool(told["command"] == "demo")
    except (OSError, ValueError, KeyError, TypeError):
        return False


# Findings -----------------------------------------------------------------------------------------------------------


def _compared(told: Mapping[str, Any]) -> str:
    """A benchmark's headline under both methods, and whether the difference is more than chance."""
    (pair,) = told["paired"]
    name, before, after = (told["headline"], told["methods"][pair["a"]], told["methods"][pair["b"]])
    sentence = f"{told['bench']}, {told['n']} items, {name.replace('_', ' ')}: {pair['a']} {_percent(before[name])}, "
    sentence += f"{pair['b']} {_percent(after[name])}"
    if pair["delta"] is None or pair["ci95"] is None:
        return f"{sentence}."
    low, high = (100 * bound for bound in pair["ci95"])
    is_better = pair["delta"] > 0 if told["better"] == "larger" else pair["delta"] < 0
    is_sure = low > 0 or high < 0
    verdict = ("better" if is_better else "worse") if is_sure else "within chance"
    sentence += f" ({100 * pair['delta']:+.1f} points, 95% interval {low:+.1f} to {high:+.1f}): {verdict}"
    beside = [
        f"{figure.replace('_', ' ')} {_percent(before[figure])} to {_percent(after[figure])}"
        for figure in BESIDE
        if before.get(figure) is not None
    ]
    return f"{sentence}{'; ' if beside else ''}{', '.join(beside)}."


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _strongest(told: Mapping[str, Any], question: Question) -> str:
    """The part of the picture, hidden at one layer, that speaks most for the answer, beside all the others."""
    effects = [
        max(
            (
                (-(row[place] or 0.0), layer)
                for layer, row in zip(told["layer_numbers"], told["maps"]["logprob"], strict=True)
            )
        )
        for place in range(len(told["tokens"]))
    ]
    (effect, layer), place = max((found, place) for place, found in enumerate(effects))
    rest = max((abs(found) for other, (found, _) in enumerate(effects) if other != place), default=0.0)
    part = told["tokens"][place]
    where = "where it is" if question.holds(part["box"]) else "where it is not"
    return (
        f"Asked '{question.prompt}' it says {told['baseline'].get('text', '').strip()!r}. Hiding {part['text']} of the "
        f"patches, {where}, in layer {layer} takes {effect:.2f} off the answer's log-probability; hiding any other "
        f"part, in any layer, at most {rest:.1g}."
    )
