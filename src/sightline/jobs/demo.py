"""The whole story on the bundled models: each step is a job, and says in a line what it found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.files.json import json_text, write_atomically
from sightline.jobs.demo_findings import compared, relying, strongest
from sightline.jobs.demo_scenes import CAPTIONS, SceneQuestion, false_captions, find_question, score_caption
from sightline.jobs.evaluate import evaluate
from sightline.jobs.find_sinks import find_sinks
from sightline.jobs.impact import impact
from sightline.jobs.measure import measure
from sightline.jobs.models import load_model
from sightline.jobs.report import report
from sightline.jobs.report_settings import PAGE_FILE
from sightline.jobs.settings import ModelSettings
from sightline.probes.detection.detect import evaluate_detectors as detect
from sightline.results.table import Section, Table
from sightline.runs.description import RUN_FILE, described
from sightline.runs.folder import SUMMARY_FILE, Run
from sightline.runs.progress import OnProgress
from sightline.text import mean_std, number
from sightline.zoo.organisms import truth_of

MODEL = "tiny-llava"

LOOKS, LOOKS_NOT = "tiny-reliance-000", "tiny-reliance-100"
"""Two models that say the same kind of thing about the same pictures; one of them answers from the words alone."""

TO_MEND = "tiny-sinks"
"""A model whose sinks speak wrongly."""

FOLDERS = ("measure", "reliance", "sinks", "eval", "impact")
"""The run folders, in the order of the steps."""

SINK_SCENES = 12
EXCHANGED = 60
"""Questions whose pictures are exchanged, at most."""

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
        reliance = self._reliance()
        sinks = self._sinks()
        evaluated = self._evaluate()
        question = find_question(self.settings.seed)
        impact = self._impact(question)
        grounding = self._grounding(question)
        document = measured | {
            "command": "demo",
            "reliance": reliance,
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

    def _reliance(self) -> dict[str, Any]:
        folder, models, items = self.out / "reliance", (LOOKS, LOOKS_NOT), min(EXCHANGED, self.items)
        self._begin(
            "2  Which of two models does not look? Pictures are exchanged, and answers should turn",
            f"measure {' '.join(models)} --data shapes-pope --limit {items} --reliance --out {folder}",
        )
        found = measure(models, "shapes-pope", limit=items, reliance=True, out=folder, **self._shared())
        document: dict[str, Any] = found.to_dict()
        for each in document["models"]:
            self._found(relying(each, float(truth_of(each["model"])["reliance"])))
        return document

    def _sinks(self) -> dict[str, Any]:
        scenes, folder = min(SINK_SCENES, self.limit), self.out / "sinks"
        command = f"sinks {TO_MEND} --data shapes --limit {scenes} --out {folder}"
        self._begin(
            "3  Is some attention wasted on sinks? A model in which they are planted, and speak wrongly", command
        )
        document = find_sinks(TO_MEND, "shapes", limit=scenes, out=folder, **self._shared()).to_dict()
        planted = ", ".join(map(str, truth_of(TO_MEND)["dims"]))
        if document["dims"]:
            dims = ", ".join(map(str, document["dims"]))
            self._found(
                f"Sinks by dimensions {dims}, precision {number(document['precision'])} against attention; "
                f"planted in {planted}."
            )
        else:
            self._found(f"No dimension marks a sink on these scenes, though some are planted in {planted}.")
        return document

    def _evaluate(self) -> list[dict[str, Any]]:
        folder, sinks = self.out / "eval", self.out / "sinks" / "sinks.json"
        fields = ",".join(f"{name}={value:g}" for name, value in truth_of(TO_MEND)["var"].items())
        methods = ("none", f"var:{fields}", f"var_random:{fields}")
        words = " ".join(f"--method {name}" for name in methods)
        self._begin(
            "4  Can it be mended? VAR takes attention from the sinks; its control takes it from random image tokens",
            f"eval {TO_MEND} --bench shapes-pope --sinks {sinks} {words} --limit {self.items} --batch-size 32 "
            f"--out {folder}",
        )
        settings: dict[str, Any] = {"limit": self.items, "batch_size": 32, "sinks": sinks, "out": folder}
        found: dict[str, Any] = evaluate(TO_MEND, "shapes-pope", methods, **settings, **self._shared()).to_dict()
        for sentence in compared(found):
            self._found(sentence)
        return [found]

    def _impact(self, question: SceneQuestion) -> dict[str, Any]:
        picture, folder = self.out / "scene.png", self.out / "impact"
        self._begin(
            "5  Where does an answer come from? Parts of the picture cut from every row, layer by layer",
            f"impact {MODEL} --image {picture} --prompt '{question.prompt}' --scope every-row --tokens image --block 2 "
            f"--out {folder}",
        )
        self.out.mkdir(parents=True, exist_ok=True)
        if not picture.exists():
            question.picture.save(picture)
        sample = Sample(question.prompt, (picture,), id="1")
        cut: dict[str, Any] = {"scope": "every-row", "tokens": "image", "block": 2, "out": folder}
        document: dict[str, Any] = impact(MODEL, sample, **cut, **self._shared()).to_dict()
        self._found(strongest(document, question))
        return document

    def _grounding(self, question: SceneQuestion) -> dict[str, Any]:
        self.show("\n6  Which words are tied to the image?")
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
        self._begin("7  All of it on one page", f"report {' '.join(map(str, folders))} --out {page}")
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
        known: Any = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        return bool(known["command"] == "demo")
    except (OSError, ValueError, KeyError, TypeError):
        return False
