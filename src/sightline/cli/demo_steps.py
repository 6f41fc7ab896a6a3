"""The steps of the demo: each runs a command as a user would, and says in a line what its document holds."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sightline.cli.demo_scenes import CAPTIONS, Question, false_captions, find_question, score_caption
from sightline.cli.options import Common
from sightline.cli.output import Output
from sightline.errors import InputError
from sightline.files.json import json_text, write_atomically
from sightline.runs.folder import SUMMARY_FILE
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
    """One demo. limit: scenes that are measured. items: benchmark questions, at most."""

    common: Common
    out: Path
    limit: int
    items: int
    output: Output

    @property
    def model(self) -> str:
        """The trained model."""
        return MODEL

    def run(self) -> dict[str, Any]:
        """All steps; the document is that of `measure` with those of the others beside."""
        measured = self._measure()
        sinks = self._sinks()
        evaluated = self._eval()
        question = find_question(self.common.seed)
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
        self._title("1  Does it look at the image?")
        told = self._command("measure", MODEL, "--data", "shapes", "--limit", self.limit, "--out", self.out / "measure")
        rows = [
            (
                f"{name}, layers {', '.join(map(str, stage['layers']))}",
                mean_std(stage["mdi"], stage["mdi_std"]),
                number(stage["mdi_no_sinks"]),
                mean_std(stage["aei"], stage["aei_std"]),
            )
            for name, stage in told["stages"].items()
        ]
        self.output.table("", ("stage", "MDI", "MDI without sinks", "AEI"), rows)
        late = told["stages"]["late"]["mdi"]
        if late is not None:
            self._found(
                f"Where the answer is made (late), a text token draws {late:.2f} times the attention of an image token "
                f"(MDI): {'text' if late > 1 else 'the image'} dominates."
            )
        return told

    def _sinks(self) -> dict[str, Any]:
        self._title("2  Is some of that attention wasted on sinks?")
        scenes = min(SINK_SCENES, self.limit)
        told = self._command("sinks", MODEL, "--data", "shapes", "--limit", scenes, "--out", self.out / "sinks")
        if told["dims"]:
            found = ", ".join(map(str, told["dims"]))
            self._found(f"Sinks by dimensions {found}, precision {number(told['precision'])} against attention.")
        else:
            best = "".join(
                f" (the best candidate, {entry['dim']}, scores {entry['score']:.2f})"
                for entry in told["candidates"][:1]
            )
            self._found(f"No: no dimension marks a sink{best}; VAR, which takes from sinks, has nothing to take here.")
        return told

    def _eval(self) -> list[dict[str, Any]]:
        self._title("3  Can it be mended? A half-trained model that invents objects, with and without a method")
        told = self._command(
            "eval", TO_MEND, "--bench", "shapes-pope", "--bench", "shapes-chair", "--method", "none",
            "--method", REMEDY, "--limit", self.items, "--batch-size", 32, "--out", self.out / "eval",
        )  # fmt: skip
        found: list[dict[str, Any]] = told["evaluations"]
        for each in found:
            self._found(_compared(each))
        return found

    def _impact(self, question: Question) -> dict[str, Any]:
        self._title("4  Where does an answer come from? Parts of the picture cut from every row, layer by layer")
        self.out.mkdir(parents=True, exist_ok=True)
        picture = self.out / "scene.png"
        if not picture.exists():
            question.picture.save(picture)
        told = self._command(
            "impact", MODEL, "--image", picture, "--prompt", question.prompt, "--scope", "every-row",
            "--tokens", "image", "--block", 2, "--out", self.out / "impact",
        )  # fmt: skip
        self._found(_strongest(told, question))
        return told

    def _grounding(self, question: Question) -> dict[str, Any]:
        from sightline.jobs.load import load_model
        from sightline.probes.detection.detect import evaluate

        self._title("5  Which words are tied to the image?")
        self.output.text("   with sl.Grounding().on(vlm) as probe: vlm.generate(inputs)")
        with self.output.guarded():
            vlm = load_model(MODEL, self.common)
            tokens = score_caption(vlm, question)
            count = min(CAPTIONS, self.items)
            detection = evaluate(vlm, false_captions(count, self.common.seed), seed=self.common.seed)
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
        from sightline.cli.demo import PAGE

        self._title("6  All of it on one page")
        folders = [self.out / name for name in FOLDERS]
        told = self._command("report", *folders, "--out", self.out / PAGE, is_common=False)
        self._found(f"{told['report']}, {told['bytes'] / 1e6:.1f} MB, everything in the one file.")
        return str(told["report"])

    # Their manner ---------------------------------------------------------------------------------------------------

    def _command(self, name: str, *words: object, is_common: bool = True) -> dict[str, Any]:
        """Runs a command as if it were typed, and returns its document."""
        from sightline.cli.main import cli

        typed = [name, *map(str, words), *(self._common() if is_common else ())]
        self.output.text(f"   sightline {shlex.join(typed)}")
        written = io.StringIO()
        command = cli.get_command(click.Context(cli), name)
        if command is None:
            raise InputError(f"There is no command {name}.")
        with redirect_stdout(written):
            command.main([*typed[1:], "--json"], prog_name=f"sightline {name}", standalone_mode=False)
        document: dict[str, Any] = json.loads(written.getvalue())
        return document

    def _common(self) -> list[str]:
        """The options of the demo that a command is to be given as well."""
        defaults = Common()
        given = {
            name: getattr(self.common, name)
            for name in ("seed", "device", "dtype", "quantize")
            if getattr(self.common, name) != getattr(defaults, name)
        }
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]

    def _title(self, text: str) -> None:
        self.output.text(f"\n{text}")

    def _found(self, text: str) -> None:
        self.output.text(f"-> {text}")


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
