"""What each steering method does to models whose fault is known, beside its controls, on scenes of their own.

    python benchmarks/steering_organisms.py --scenes 300       # an hour of one core; goes on where it stopped
    python benchmarks/steering_organisms.py --render           # only writes the tables of docs/steering_organisms.md

Every model is asked where its fault shows and where it should not; `steering_questions.py` says what. Half of the
answers are yes. Methods answer greedily. A difference to no method is paired, its p-value that of an exact sign-flip
test over scenes (McNemar's where each has one question), adjusted by Holm over all tests of a model. Results stand in
results/steering_MODEL.json, one entry a method, written as soon as it is done; those of the same settings are not
measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import string
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from common import machine
from steering_figures import adjust, difference, paired, share, write_tables
from steering_questions import FAULTS, Asked, questions_of
from steering_rows import Made, Row, rows_of
from steering_table import RESULTS, ROOT, caption_counts, sinks_of

import sightline as sl
import sightline.methods
from sightline.benchmarks.base import Item
from sightline.errors import SightlineError, SightlineWarning
from sightline.jobs.blind import View, seen_as
from sightline.methods.base import parse_spec
from sightline.zoo.organisms import organisms, truth_of

PAGE = ROOT / "docs" / "steering_organisms.md"
CAPTION_TOKENS = 48
LEVEL = 0.05
TITLES = {"fault": "where the fault shows", "sound": "elsewhere"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without", nargs="+", default=[], help="methods left out, as opera")
    parser.add_argument("--no-controls", action="store_true", help="methods alone")
    parser.add_argument("--render", action="store_true", help="only write the tables")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", SightlineWarning)
    for model in () if options.render else options.models:
        _measure(model, options)
    write_tables(PAGE, {model: RESULTS / f"steering_{model}.json" for model in FAULTS}, _table)


def _measure(name: str, options: argparse.Namespace) -> None:
    count, batch = options.scenes, options.batch
    path = RESULTS / f"steering_{name}.json"
    settings = {"scenes": count, "sampling_seed": 0}
    document = json.loads(path.read_text()) if path.is_file() else {}
    if document.get("settings") != settings:
        document = {"benchmark": "steering_organisms", "model": name, **machine("cpu"), "settings": settings}
        document |= {"rows": {}}
    vlm = sl.load(name, device="cpu")
    asked = questions_of(name, count)
    encoded = {None: _encoded(vlm, asked, batch)}
    document.setdefault("sinks", {}) or document["sinks"].update(sinks_of(vlm, encoded[None]["fault"][:1]))
    with tempfile.TemporaryDirectory() as folder:
        made = Made(vlm, Path(folder))
        document["heads"] = document.get("heads") or made.heads
        known = truth_of(name).get("var") if name in organisms() else None
        for row in sorted(rows_of(known), key=lambda row: row.is_control):
            spec = row.spec.replace("SINKS", document["sinks"]["found"]).replace("FORCED", document["sinks"]["forced"])
            spec = spec.replace("HEADS", document["heads"])
            done = document["rows"].get(row.title, {}).get("spec") == spec
            if done or spec.partition(":")[0] in options.without or (row.is_control and options.no_controls):
                continue
            if row.view not in encoded:
                encoded[row.view] = _encoded(vlm, asked, batch, row.view)
            found = _answers(vlm, asked, encoded[row.view], made.filled(spec))
            document["rows"][row.title] = {"spec": spec, "transformers": machine("cpu")["transformers"], **found}
            path.write_text(json.dumps(document, indent=1) + "\n")
            print(name, row.title, found.get("refused") or f"{found['processor_seconds']:.1f} s", flush=True)


def _encoded(vlm: Any, asked: dict[str, list[Asked]], batch: int, view: View | None = None) -> dict[str, list[Any]]:
    """Batches of each part; with a view, asked without their own picture or in other words."""
    found, is_whole = {}, FAULTS[vlm.name].is_whole
    for part, every in asked.items():
        items = [Item(str(place), each.prompt, (each.picture,)) for place, each in enumerate(every)]
        # The other question of a pair is of no other scene.
        firsts, seconds = _pairs(items) if part == "fault" and is_whole else (items, [])
        seen = items if view is None else [seen_as(view, half)(item) for half in (firsts, seconds) for item in half]
        samples = [sl.Sample(prompt=item.prompt, image=item.images[0]) for item in seen]
        found[part] = [vlm.encode(samples[start : start + batch]) for start in range(0, len(samples), batch)]
    return found


def _answers(vlm: Any, asked: dict[str, list[Asked]], batches: dict[str, list[Any]], spec: str) -> dict[str, Any]:
    """The first word of all answers under one method: y, n, a digit, or ? for any other; or why it does not fit."""
    started = time.process_time()
    said: dict[str, list[str]] = {}
    try:
        method = parse_spec(spec)
        with nullcontext() if method is None else method.on(vlm):
            for part, every in batches.items():
                said[part] = []
                for number, inputs in enumerate(every):
                    torch.manual_seed(number)
                    length = CAPTION_TOKENS if part == "captions" else 1
                    tokens = vlm.generate_tokens(inputs, max_new_tokens=length, do_sample=False)
                    said[part] += [vlm.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens]
    except SightlineError as error:
        return {"refused": str(error).partition("\n")[0]}
    captions = said.pop("captions", None)
    return {
        "said": {part: "".join(map(_letter, texts)) for part, texts in said.items()},
        **({"captions": caption_counts(captions, [each.kinds for each in asked["captions"]])} if captions else {}),
        "processor_seconds": time.process_time() - started,
    }


def _letter(text: str) -> str:
    answers = ("yes", "no", *string.digits)
    return next((answer[0] for answer in answers if text.lower().startswith(answer)), "?")


def figures(row: dict[str, Any], base: dict[str, Any], truths: dict[str, str], is_whole: bool) -> dict[str, Any]:
    """Every number of one row of the table, held against the row `base`."""
    right, before = (_right(each, truths) for each in (row, base))
    told: dict[str, Any] = {"right": right, "tests": {}}
    for part in right:
        scenes = len(right[part]) // (2 if part == "fault" and is_whole else 1)
        told["tests"][part] = paired(right[part], before[part], scenes)
    told["both"] = statistics.fmean(map(min, *_pairs(right["fault"])))
    told["yes_ratio"] = 1 - row["said"]["fault"].count("n") / len(row["said"]["fault"])
    told["changed"] = row["said"] != base["said"] or row.get("captions") != base.get("captions")
    told["neither"] = row["said"]["fault"].count("?") / len(row["said"]["fault"])
    if "captions" in row:
        counts, theirs = ({kind: _numbers(text) for kind, text in it["captions"].items()} for it in (row, base))
        told["chair_s"] = sum(map(bool, counts["invented"])) / len(counts["invented"])
        told["recall"] = sum(counts["recalled"]) / sum(counts["there"])
        named = ([each > 0 for each in it["invented"]] for it in (counts, theirs))
        told["tests"]["captions"] = paired(*named, scenes=len(counts["invented"]))
    return told


def _right(row: dict[str, Any], truths: dict[str, str]) -> dict[str, list[bool]]:
    """By POPE's reading, everything but no is a yes; a count is a digit."""

    def is_right(said: str, truth: str) -> bool:
        return said == truth if truth.isdigit() else (said == "n") == (truth == "n")

    return {part: list(map(is_right, row["said"][part], truths[part])) for part in row["said"]}


def _pairs(every: list[Any]) -> tuple[list[Any], list[Any]]:
    """Of the first questions of all scenes, and of their second ones."""
    half = len(every) // 2
    return every[:half], every[half:]


def _numbers(text: str) -> list[int]:
    return list(map(int, text.split()))


def compared(document: dict[str, Any]) -> list[tuple[Row, dict[str, Any], dict[str, Any] | None]]:
    """Every row that is there, its entry, and its figures; None of a method that does not fit the model."""
    name, rows = document["model"], document["rows"]
    truths = {
        part: "".join(each.truth[0] for each in every)
        for part, every in questions_of(name, document["settings"]["scenes"]).items()
        if part != "captions"
    }
    known = truth_of(name).get("var") if name in organisms() else None
    found = []
    for row in rows_of(known):
        entry = rows.get(row.title)
        if entry is not None:
            found.append(
                (
                    row,
                    entry,
                    None if "refused" in entry else figures(entry, rows["none"], truths, FAULTS[name].is_whole),
                )
            )
    adjust(test for row, _, told in found if told and row.title != "none" for test in told["tests"].values())
    return found


def _table(document: dict[str, Any]) -> str:
    every = compared(document)
    plain = next(told for row, _, told in every if row.title == "none")
    assert plain is not None
    is_whole = FAULTS[document["model"]].is_whole
    columns = ["method", TITLES["fault"], *(["both right"] if is_whole else []), "yes ratio", "neither"]
    columns += [TITLES[part] for part in plain["right"] if part != "fault"]
    columns += ["captions that name what is not there", "recall"] if "chair_s" in plain else []
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---|" * (len(columns) - 1)]
    same, refused = [], []
    for row, entry, told in every:
        if told is None:
            refused.append(f"{row.title} ({entry['refused'].rstrip('.')})")
        elif told["changed"] or told is plain:
            lines.append("| " + " | ".join(_cells(row, told, told is plain, is_whole)) + " |")
        else:
            same.append(f"{row.title} (a control)" if row.is_control else row.title)
    lines += ["", *_counted(every)]
    settings = document["settings"]
    about = f"{FAULTS[document['model']].said} {settings['scenes']} scenes; torch {document['torch']}, "
    text = f"{about}transformers {document['transformers']}, {document['date']}.\n\n" + "\n".join(lines)
    text += f"\n\nNot one answer other than with no method ({len(same)}): {'; '.join(same)}." if same else ""
    return text + (f"\n\nDo not fit this model: {'; '.join(refused)}." if refused else "")


def _counted(every: list[tuple[Row, dict[str, Any], dict[str, Any] | None]]) -> Iterator[str]:
    """How many methods, and how many controls, are better or worse than none beyond chance in any test."""
    for is_control, kind in ((False, "methods and settings"), (True, "controls")):
        of_kind = [
            (row, told) for row, _, told in every if told and row.title != "none" and row.is_control == is_control
        ]
        if not of_kind:
            continue
        sides: dict[str, list[str]] = {"better": [], "worse": []}
        for row, told in of_kind:
            signs = {
                (test["delta"] > 0) != (part == "captions")
                for part, test in told["tests"].items()
                if test["p_holm"] < LEVEL
            }
            for is_better in signs:
                sides["better" if is_better else "worse"].append(row.title)
        said = (f"{len(titles)} {how}" + (f" ({'; '.join(titles)})" if titles else "") for how, titles in sides.items())
        yield f"Beyond chance of {len(of_kind)} {kind}: {', '.join(said)}." + ("" if is_control else "  ")


def _cells(row: Row, told: dict[str, Any], is_plain: bool, is_whole: bool) -> list[str]:
    def cell(part: str, text: str) -> str:
        return text if is_plain else f"{text}; {difference(told['tests'][part])}"

    cells = [f"- {row.title}" if row.is_control else f"**{row.title}**"]
    cells += [
        cell("fault", share(told["right"]["fault"])),
        *([f"{100 * told['both']:.1f}"] if is_whole else []),
        f"{100 * told['yes_ratio']:.0f}",
        f"{100 * told['neither']:.0f}",
    ]
    cells += [cell(part, share(told["right"][part])) for part in told["right"] if part != "fault"]
    if "chair_s" in told:
        cells += [cell("captions", f"{100 * told['chair_s']:.1f}"), f"{100 * told['recall']:.1f}"]
    return cells


if __name__ == "__main__":
    main()
