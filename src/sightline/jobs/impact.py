"""What `impact` does: each prompt's maps into the run folder, and the documents of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.cli.output import Output
from sightline.errors import InputError
from sightline.files.json import json_text, write_atomically
from sightline.jobs.impact_config import Request
from sightline.jobs.load import load_model, pin_folder
from sightline.runs.batches import Batches, free_memory
from sightline.runs.folder import Run

if TYPE_CHECKING:
    from sightline.cli.impact import Task
    from sightline.knockout.result import ImpactMap
    from sightline.models.vlm import VLM

JSON_FILE, CSV_FILE = "impact.json", "impact.csv"

TOP = 5
"""Sources that a stage is summed up by."""


def work(task: Task, run: Run, output: Output) -> None:
    """Does what the run does not have yet. A prompt's files are whole before its line is written."""
    models = [task.model, *([] if task.compare is None else [task.compare])]
    for name in dict.fromkeys(models):
        pin_folder(name, run)
    done = run.done_ids(task.model)
    todo = [request for request in task.requests if request.id not in done or not _is_kept(task, run, request)]
    if not todo:
        return
    if len(todo) < len(task.requests):
        output.note(f"{len(task.requests) - len(todo)} of {len(task.requests)} prompts are already in {run.folder}.")
    if task.compare is None:
        vlm = _load(task, task.model, run)
        attempt = _writer(task, run, output, vlm)
    else:
        attempt = _comparer(task, run, _first_maps(task, run, todo), _load(task, task.compare, run))
    with output.progress("prompts", len(task.requests), len(task.requests) - len(todo)) as bar:
        for outcome in Batches(1).outcomes(todo, attempt):
            if outcome.error is not None and task.is_single:
                raise outcome.error
            run.record(outcome.id, model=task.model, **outcome.fields())
            bar.advance(bar.task_ids[0])


def _load(task: Task, name: str, run: Run) -> VLM:
    vlm = load_model(name, task.common, task.layout if name == task.model else None)
    if vlm.revision is not None:
        run.pin(f"revision of {name}", vlm.revision)
    return vlm


def _writer(task: Task, run: Run, output: Output, vlm: VLM) -> Callable[[Sequence[Request]], list[dict[str, Any]]]:
    def write(batch: Sequence[Request]) -> list[dict[str, Any]]:
        from sightline.pages.impact_figures import impact_figures, parts_figure
        from sightline.pages.pictures import keep_thumbnails

        (request,) = batch
        found = _maps(request, vlm, output)
        folder = place_of(task, run.folder, request)
        folder.mkdir(parents=True, exist_ok=True)
        pictures = request.sample.load_images()
        for number, each in enumerate(found):
            stem = f"token{number:02d}_" if request.study.new_tokens is not None else ""
            impact_figures(each, folder / "figures", pictures, stem)
        keep_thumbnails(pictures, folder)
        _write_table(folder / CSV_FILE, found, request)
        document = _document(request, found, vlm)
        if found[0].reference and request.study.tokens != "text":
            from sightline.knockout.parts import image_parts

            parts = image_parts(vlm, request.sample, request.study)
            if parts is not None:
                parts_figure(parts, folder / "figures", pictures)
                document["every_row"] = parts.to_dict()
        write_atomically(folder / JSON_FILE, json_text(document))
        return [_line(task, run, request, found)]

    return write


def _maps(request: Request, vlm: VLM, output: Output) -> list[ImpactMap]:
    """The maps of one prompt; passes of the tower have a bar of their own."""
    sample = request.sample
    if not vlm.anatomy.is_multimodal and sample.images and request.study.mode in ("local", "causal"):
        raise InputError(f"{vlm.name} reads text alone, and the prompt comes with an image: leave --image out.")
    study = request.study
    if study.mode == "causal" and study.scope == "row" and study.new_tokens is None:
        study = replace(study, reference=True)
    if study.mode != "tower":
        return study.run(vlm, sample)
    with output.progress("passes", 1) as bar:
        return study.run(
            vlm, sample, on_pass=lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total)
        )


def _write_table(path: Path, found: Sequence[ImpactMap], request: Request) -> None:
    """One CSV; over an answer with a first column that counts its tokens."""
    if request.study.new_tokens is None:
        found[0].to_csv(path)
        return
    import pandas as pd

    frames = [each.to_pandas().assign(token=number) for number, each in enumerate(found)]
    table = pd.concat(frames)
    columns = ["token", *(name for name in table.columns if name != "token")]
    table[columns].to_csv(path, index=False, encoding="utf-8")


def _document(request: Request, found: Sequence[ImpactMap], vlm: VLM) -> dict[str, Any]:
    """The map's document; over an answer {"model", "mode", "text", "new_tokens": [documents]}."""
    if request.study.new_tokens is None:
        return found[0].to_dict() | {"prompt": request.sample.prompt}
    tokens = [each.baseline.get("predicted", each.baseline["token"]) for each in found]
    return {
        "model": vlm.name,
        "mode": request.study.mode,
        "prompt": request.sample.prompt,
        "text": vlm.tokenizer.decode(tokens, skip_special_tokens=True).strip(),
        "new_tokens": [each.to_dict() for each in found],
    }


def _line(task: Task, run: Run, request: Request, found: Sequence[ImpactMap]) -> dict[str, Any]:
    """What the run's line tells of a prompt; the maps themselves stand in its folder."""
    first = found[0]
    return {
        "folder": str(place_of(task, Path(), request)),
        "prompt": request.sample.prompt,
        "mode": first.mode,
        "row": first.row,
        "sources": len(first.tokens),
        "answers": [each.baseline.get("text") for each in found],
        "prob": first.baseline.get("prob"),
        "top": [
            {"position": source.position, "text": source.text, "row": source.row, "col": source.col, "effect": effect}
            for source, effect in first.top(first.layers, TOP)
        ],
    }


def place_of(task: Task, folder: Path, request: Request) -> Path:
    """Where a prompt's files stand: the run folder itself for a single one, else a folder of its own in it."""
    if task.is_single:
        return folder
    number = [each.id for each in task.requests].index(request.id) + 1
    name = re.sub(r"[^\w.-]+", "_", request.id)[:60].strip("._")
    return folder / "prompts" / (f"{number:03d}-{name}" if name else f"{number:03d}")


def _is_kept(task: Task, run: Run, request: Request) -> bool:
    """Whether a finished prompt's document is still there; one that failed has none."""
    record = run.records.get((task.model, "none", request.id))
    return record is None or record.error is not None or (place_of(task, run.folder, request) / JSON_FILE).is_file()


# Two models ---------------------------------------------------------------------------------------------------------


def _first_maps(task: Task, run: Run, todo: Sequence[Request]) -> dict[str, ImpactMap | Exception]:
    """The first model's maps, made before the second is loaded, so that never two are held."""
    vlm = _load(task, task.model, run)
    found: dict[str, ImpactMap | Exception] = {}
    for request in todo:
        try:
            found[request.id] = _for_one(request, vlm)
        except Exception as error:
            if task.is_single:
                raise
            found[request.id] = error
    del vlm
    free_memory()
    return found


def _for_one(request: Request, vlm: VLM) -> ImpactMap:
    """One of two models' maps: a text-only one reads the words alone."""
    sample = request.sample if vlm.anatomy.is_multimodal else replace(request.sample, images=())
    (found,) = request.study.run(vlm, sample)
    return found


def _comparer(
    task: Task, run: Run, first: dict[str, ImpactMap | Exception], vlm: VLM
) -> Callable[[Sequence[Request]], list[dict[str, Any]]]:
    def write(batch: Sequence[Request]) -> list[dict[str, Any]]:
        from sightline.knockout.compare import compare
        from sightline.pages.compare_figures import compare_figures

        (request,) = batch
        before = first[request.id]
        if isinstance(before, Exception):
            raise before
        after = _for_one(request, vlm)
        found = compare(before, after)
        folder = place_of(task, run.folder, request)
        folder.mkdir(parents=True, exist_ok=True)
        compare_figures(found, folder / "figures")
        before.to_csv(folder / "impact_a.csv")
        after.to_csv(folder / "impact_b.csv")
        write_atomically(folder / JSON_FILE, json_text(found.to_dict() | {"prompt": request.sample.prompt}))
        line = _line(task, run, request, [before])
        return [line | {"aligned": len(found.pairs), "unaligned": [len(found.only_a), len(found.only_b)]}]

    return write


# Documents ----------------------------------------------------------------------------------------------------------


def document(task: Task, run: Run) -> dict[str, Any]:
    """The command's JSON document: a single prompt's own, else what `summary` tells."""
    if not task.is_single:
        return summary(task, run)
    path = place_of(task, run.folder, task.requests[0]) / JSON_FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: delete {run.folder}, or give another folder.") from error
    return found


def summary(task: Task, run: Run) -> dict[str, Any]:
    """{"model", "prompts": [a line a prompt], "failed"}; InputError when not one prompt could be done."""
    records = [run.records[task.model, "none", request.id] for request in task.requests]
    good = [record for record in records if record.result is not None]
    if not good:
        raise InputError(
            f"Not one of {len(records)} prompts could be done on {task.model}; the first: {records[0].error}"
        )
    lines = [
        {"id": record.id, **(record.result or {}), **({} if record.error is None else {"error": record.error})}
        for record in records
    ]
    return {"model": task.model, "compare": task.compare, "failed": len(records) - len(good), "prompts": lines}


def told(task: Task) -> str:
    """The files of the run folder, in words."""
    own = "impact_a.csv, impact_b.csv" if task.compare is not None else CSV_FILE
    files = f"{JSON_FILE}, {own}, figures/"
    return files if task.is_single else f"prompts/*/ ({files}), samples.jsonl, summary.json"
