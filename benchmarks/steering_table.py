"""What each steering method does to the bundled models, beside its controls, on scenes they were never trained on.

    python benchmarks/steering_table.py --scenes 300       # some ten minutes of one core; goes on where it stopped
    python benchmarks/steering_table.py --render           # only writes the tables of docs/steering.md

Each scene is asked about one kind that is there and three that are not (random, popular and adversarial, as in POPE;
the present kind is shared by the three splits), and described once. Every method answers the same questions; a
difference to no method is paired, its p-value that of an exact sign-flip test over scenes (McNemar's where each has one
question), adjusted by Holm over all tests of a model. Results
stand in results/steering_MODEL.json, one entry a method, written as soon as it is done; those of the same settings are
not measured again.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import machine
from steering_figures import adjust, difference, paired, wilson, write_tables
from steering_rows import ROWS, Made, Row

import sightline as sl
import sightline.methods
from sightline.benchmarks.base import Item
from sightline.errors import SightlineWarning
from sightline.jobs.blind import View, seen_as
from sightline.methods.base import EMPTY, parse_spec
from sightline.zoo import questions as ask
from sightline.zoo.render import render
from sightline.zoo.world import NEGATIVES, Kind, Scene, draw_scenes, negatives

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "steering.md"
MODELS = ("tiny-llava", "tiny-llava-early")
SCENE_SEED = 700_003
"""Scenes of this seed are drawn nowhere else: not in training, not in its checks, not in the figures of the cards."""

FORCED_SHARE = 0.1
"""Of image tokens that the forced tau makes sinks."""


@dataclass(frozen=True)
class BenchmarkItems:
    """One kind of question for every scene: encoded batches, and the truth of each."""

    name: str
    truths: list[Any]
    batches: list[Any]
    new_tokens: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without", nargs="+", default=[], help="methods left out, as opera")
    parser.add_argument("--render", action="store_true", help="only write the tables")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", SightlineWarning)
    for model in () if options.render else options.models:
        _measure(model, options.scenes, options.batch, tuple(options.without))
    write_tables(PAGE, {model: RESULTS / f"steering_{model}.json" for model in MODELS}, _table)


def _measure(name: str, count: int, batch: int, without: tuple[str, ...]) -> None:
    path = RESULTS / f"steering_{name}.json"
    settings = {"scenes": count, "scene_seed": SCENE_SEED, "sampling_seed": 0, "queries": "generated"}
    document = json.loads(path.read_text()) if path.is_file() else {}
    if document.get("settings") != settings:
        document = {"benchmark": "steering_table", "model": name, **machine("cpu"), "settings": settings, "rows": {}}
    vlm = sl.load(name, device="cpu")
    scenes = list(draw_scenes(count, SCENE_SEED))
    asked = _questions(vlm, scenes, batch)
    specs = document.setdefault("sinks", {}) or sinks_of(vlm, asked[-1].batches)
    document["sinks"] = specs
    views = {None: asked}
    with tempfile.TemporaryDirectory() as folder:
        made = Made(vlm, Path(folder))
        document["heads"] = document.get("heads") or made.heads
        for row in ROWS:
            spec = row.spec.replace("SINKS", specs["found"]).replace("FORCED", specs["forced"])
            spec = spec.replace("HEADS", document["heads"])
            if document["rows"].get(row.key, {}).get("spec") == spec or spec.partition(":")[0] in without:
                continue
            if row.view not in views:
                views[row.view] = _questions(vlm, scenes, batch, row.view)
            found = _answers(vlm, views[row.view], made.filled(spec), row.sampled)
            document["rows"][row.key] = {"spec": spec, "transformers": machine("cpu")["transformers"], **found}
            path.write_text(json.dumps(document, indent=1) + "\n")
            print(name, row.key, f"{document['rows'][row.key]['processor_seconds']:.0f} s", flush=True)


def _questions(vlm: Any, scenes: list[Scene], batch: int, view: View | None = None) -> list[BenchmarkItems]:
    """The present kind, the three absent ones, and the description; with a view, asked without their own picture."""
    pictures = [render(scene) for scene in scenes]
    asked: dict[str, list[ask.Question]] = {"present": []} | {how: [] for how in NEGATIVES}
    for index, scene in enumerate(scenes):
        rng = random.Random(f"steering/{index}")
        asked["present"].append(ask.existence(scene, rng.choice(scene.kinds)))
        for how in NEGATIVES:
            asked[how].append(ask.existence(scene, negatives(scene, 1, how, rng)[0]))
    asked["caption"] = [ask.caption(scene) for scene in scenes]

    def samples(every: list[ask.Question]) -> list[sl.Sample]:
        items = [
            Item(str(place), question.prompt, (picture,))
            for place, (question, picture) in enumerate(zip(every, pictures, strict=True))
        ]
        seen = items if view is None else list(map(seen_as(view, items), items))
        return [sl.Sample(prompt=item.prompt, image=item.images[0]) for item in seen]

    return [
        BenchmarkItems(
            kind,
            [set(scene.kinds) for scene in scenes] if kind == "caption" else [it.answer for it in every],
            [vlm.encode(samples(every)[start : start + batch]) for start in range(0, len(every), batch)],
            48 if kind == "caption" else 4,
        )
        for kind, every in asked.items()
    ]


def sinks_of(vlm: Any, batches: list[Any]) -> dict[str, Any]:
    """The fields of the sinks found, and of forced ones: the two dimensions that stand out most on image tokens, by the
    95th percentile of |x_d| / RMS from layer 2 on, with the tau that one image token in ten passes."""
    found = sl.find_sinks(vlm, batches)
    image = vlm.layout(batches[0]).mask(2)
    with torch.no_grad():
        states = vlm.model(**batches[0], output_hidden_states=True).hidden_states[2:-1]
    large = torch.stack([state[image].abs() / state[image].square().mean(-1, keepdim=True).sqrt() for state in states])
    dims = large.flatten(0, 1).quantile(0.95, 0).topk(2).indices
    tau = float(large[..., dims].amax(-1).flatten().quantile(1 - FORCED_SHARE))
    listed = "+".join(map(str, found.dims)) or EMPTY
    return {
        "found": f"dims={listed},tau={found.tau:.3g}",
        "said": str(found),
        "forced": f"dims={'+'.join(str(int(dim)) for dim in sorted(dims))},tau={tau:.3g}",
        "largest": float(large.max()),
    }


def _answers(vlm: Any, asked: list[BenchmarkItems], spec: str, sampled: bool) -> dict[str, Any]:
    """All answers under one method, right or wrong, and MDI by stage over the yes/no questions."""
    method = parse_spec(spec)
    decoding = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
    started = time.process_time()
    said: dict[str, list[str]] = {}

    def answer(part: BenchmarkItems) -> None:
        said[part.name] = []
        for number, inputs in enumerate(part.batches):
            torch.manual_seed(number)
            tokens = vlm.generate_tokens(inputs, max_new_tokens=part.new_tokens, **decoding)
            said[part.name] += [vlm.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens]

    *yes_no, captions = asked
    with nullcontext() if method is None else method.on(vlm):
        # A loop of its own makes the answers of OPERA, beside which MDI is not read.
        with nullcontext() if isinstance(method, sl.OPERA) else sl.Dominance().on(vlm) as probe:
            for part in yes_no:
                answer(part)
        answer(captions)
    stages = {} if probe is None else probe.result().stages()
    return {
        "mdi": {stage: figures["mdi"] for stage, figures in stages.items()},
        "mdi_ci95": {stage: figures["mdi_ci95"] for stage, figures in stages.items()},
        # One character a scene: y, n, or ? for what is neither.
        "said": {
            kind: "".join({"yes": "y", "no": "n"}.get(text, "?") for text in said[kind])
            for kind in said
            if kind != "caption"
        },
        "captions": caption_counts(said["caption"], captions.truths),
        "processor_seconds": time.process_time() - started,
    }


def caption_counts(texts: list[str], there: list[set[Kind]]) -> dict[str, str]:
    """Of every caption how many mentions it has and how many are invented, how many kinds it names and are there."""
    named = [ask.mentioned(text) for text in texts]
    invented = [sum(kind not in true for kind in kinds) for kinds, true in zip(named, there, strict=True)]
    return {
        "invented": _numbers(invented),
        "mentions": _numbers(map(len, named)),
        "recalled": _numbers(len(set(kinds) & true) for kinds, true in zip(named, there, strict=True)),
        "there": _numbers(map(len, there)),
    }


def _numbers(counts: Iterable[int]) -> str:
    return " ".join(map(str, counts))


def figures(row: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Every number of one row of the table, held against the row `base`."""
    told: dict[str, Any] = {}
    for how in NEGATIVES:
        ours, theirs = ([*_right(it, "present", "y"), *_right(it, how, "n")] for it in (row, base))
        told[how] = {
            "accuracy": sum(ours) / len(ours),
            "ci95": wilson(sum(ours), len(ours)),
            "paired": paired(ours, theirs, len(row["said"][how])),
        }
    answers = "".join(row["said"][kind] for kind in ("present", *NEGATIVES))
    # Half of a split's questions are about what is there.
    told["yes_ratio"] = sum(
        (row["said"]["present"].count("y") + row["said"][how].count("y")) / len(row["said"][how]) / 2 / len(NEGATIVES)
        for how in NEGATIVES
    )
    told["unparsed"] = answers.count("?")
    captions, theirs = (
        {kind: [int(count) for count in text.split()] for kind, text in it["captions"].items()} for it in (row, base)
    )
    told["chair_s"] = sum(map(bool, captions["invented"])) / len(captions["invented"])
    told["chair_i"] = sum(captions["invented"]) / max(1, sum(captions["mentions"]))
    told["recall"] = sum(captions["recalled"]) / sum(captions["there"])
    named = ([count > 0 for count in it["invented"]] for it in (captions, theirs))
    told["chair_s_paired"] = paired(*named, scenes=len(captions["invented"]))
    return told


def _right(row: dict[str, Any], kind: str, truth: str) -> list[bool]:
    return [answer == truth for answer in row["said"][kind]]


def _table(document: dict[str, Any]) -> str:
    columns = ["method", "MDI early", "middle", "late", *NEGATIVES]
    columns += ["yes ratio", "CHAIRs", "CHAIRi", "recall"]
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---|" * (len(columns) - 1)]
    compared = _compared(document)
    others = [told for row, told in compared if document["rows"][row.key] is not _base(document, row)]
    adjust(test for told in others for test in (*(told[how]["paired"] for how in NEGATIVES), told["chair_s_paired"]))
    for row, told in compared:
        found, base = document["rows"][row.key], _base(document, row)
        title = f"- {row.title}" if row.is_control else f"**{row.title}**"
        title = f"{title}, T = 1" if row.sampled else title
        is_base = found is base
        cells = [f"{found['mdi'][stage]:.2f}" if found["mdi"] else "-" for stage in ("early", "middle", "late")]
        for how in NEGATIVES:
            low, high = told[how]["ci95"]
            accuracy = f"{100 * told[how]['accuracy']:.1f} ({100 * low:.0f} to {100 * high:.0f})"
            cells.append(accuracy if is_base else f"{accuracy}; {difference(told[how]['paired'])}")
        cells.append(f"{100 * told['yes_ratio']:.0f}")
        cells.append(f"{100 * told['chair_s']:.1f}" + ("" if is_base else f"; {difference(told['chair_s_paired'])}"))
        cells += [f"{100 * told['chair_i']:.1f}", f"{100 * told['recall']:.1f}"]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    settings = document["settings"]
    about = (
        f"`{document['model']}`, {settings['scenes']} scenes of seed {settings['scene_seed']}; torch "
        f"{document['torch']}, transformers {document['transformers']}, {document['date']}. "
        f"Forced sinks: `{document['sinks']['forced']}`."
    )
    return about + "\n\n" + "\n".join(lines)


def _base(document: dict[str, Any], row: Row) -> Any:
    return document["rows"].get(Row("none", "none", sampled=row.sampled).key)


def _compared(document: dict[str, Any]) -> list[tuple[Row, dict[str, Any]]]:
    """Every row that is there, with its figures against none of the same decoding."""
    there = [row for row in ROWS if row.key in document["rows"] and _base(document, row) is not None]
    return [(row, figures(document["rows"][row.key], _base(document, row))) for row in there]


if __name__ == "__main__":
    main()
