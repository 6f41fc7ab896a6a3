"""The tables of `measure` and `demo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.results.table import Section, Table
from sightline.text import mean_std, number

SCALE = "All of these know one world of shapes; what it is worth on a large model is not known."

MASSES = {"text_mass": "text", "image_mass": "image", "video_mass": "video", "audio_mass": "audio"}


def sections(documents: Sequence[dict[str, Any]], whole: Mapping[str, Any]) -> list[Section]:
    """All tables of a measurement, and the answer of a single sample.

    documents: `measure` documents, one a model and method. whole: the command's own, which may hold published figures.
    """
    found = measured_sections(documents)
    for document in whole.get("models", [whole]):
        found += published_sections(document["published"]) if document.get("published") else []
    found += [f"{label(each)} answers: {each['text']}" for each in documents if each.get("text") is not None]
    return found


def measured_sections(documents: Sequence[dict[str, Any]]) -> list[Section]:
    """Tables by layer and by stage, and what is predicted of reliance."""
    by_layer = _layers(documents[0]) if len(documents) == 1 else _layers_compared(documents)
    return [by_layer, _stages(documents), *reliance_sections(documents)]


def reliance_sections(documents: Sequence[Mapping[str, Any]]) -> list[Section]:
    """How often answers are predicted to follow the picture, a line a document, and what that is worth."""
    known = [document for document in documents if document.get("reliance")]
    found: list[Section] = [
        f"{label(dict(document))}: about {reliance['share']:.0%} of answers follow the picture "
        f"(95% interval {reliance['ci95'][0]:.0%} to {reliance['ci95'][1]:.0%}, {reliance['n']} answers), and at least "
        f"{reliance['turned']:.0%} whatever the questions are."
        for document in known
        for reliance in (document["reliance"],)
    ]
    if known:
        error = known[0]["reliance"]["error"]
        found.append(
            "Predicted from the answers that turn when pictures are exchanged between samples, for questions of yes or "
            f"no, half of which are yes; off by {100 * error:.0f} points on models left out of the fit. {SCALE}"
        )
    return found


def published_sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Ours beside the published figures."""
    cells = [
        (
            f"{row['stage']} {row['index'].upper()}",
            mean_std(row["ours"], row["ours_std"]),
            number(row["published"]),
            number(row["difference"]),
            {True: "yes", False: "no", None: "-"}[row["within_one_std"]],
        )
        for row in rows
    ]
    columns = ("", "ours", "published", "difference", "within 1 sd")
    found: list[Section] = [Table(f"Published: {rows[0]['source']}", columns, cells)]
    if not rows[0]["same_queries"]:
        found.append("The published figures are of another query set.")
    notes = {row["stage"]: row["note"] for row in rows if row["note"]}
    return [*found, *(f"The published {stage} row {note}." for stage, note in notes.items())]


def _title(document: dict[str, Any]) -> str:
    method = "" if document["method"] == "none" else f" with {document['method']}"
    failed = f", {document['failed']} failed" if document["failed"] else ""
    plural = "" if document["samples"] == 1 else "s"
    return f"{document['model']}{method}: {document['samples']} sample{plural}{failed}, queries {document['queries']}"


def _layers(document: dict[str, Any]) -> Table:
    masses = [name for name in MASSES if any(layer.get(name) is not None for layer in document["layers"])]
    columns = ("layer", "MDI", "MDI without sinks", "AEI", *(f"attention on {MASSES[name]}" for name in masses))
    rows = [
        (
            str(layer["layer"]),
            mean_std(layer["mdi"], layer["mdi_std"]),
            number(layer["mdi_no_sinks"]),
            mean_std(layer["aei"], layer["aei_std"]),
            *(number(layer.get(name), 3) for name in masses),
        )
        for layer in document["layers"]
    ]
    return Table(_title(document), columns, rows)


def _layers_compared(documents: Sequence[dict[str, Any]]) -> Table:
    by_layer = [{layer["layer"]: layer for layer in document["layers"]} for document in documents]
    layers = sorted({layer for layers in by_layer for layer in layers})
    rows = [
        (
            str(layer),
            *(mean_std(known[layer]["mdi"], known[layer]["mdi_std"]) if layer in known else "" for known in by_layer),
        )
        for layer in layers
    ]
    return Table("MDI by layer", ("layer", *map(label, documents)), rows)


def by_table(document: Mapping[str, Any]) -> Table:
    """MDI of each stage by a field of the data, a value a row."""
    rows = [
        (value, str(part["n"]), *(_mean_interval(stage["mdi"], stage["mdi_ci95"]) for stage in part["stages"].values()))
        for value, part in document["by"]["values"].items()
    ]
    return Table(
        f"{_title(dict(document))}: MDI by {document['by']['field']}",
        (document["by"]["field"], "n", *document["stages"]),
        rows,
    )


def _mean_interval(mean: float | None, interval: Sequence[float] | None) -> str:

    return number(mean) if interval is None else f"{number(mean)} ({_interval(interval)})"


def label(document: dict[str, Any]) -> str:
    """A document's name among others: the model, a folder by its last name, and the method if there is one."""
    model = document["model"].rstrip("/")
    name = model.rsplit("/", 1)[-1] if model.startswith((".", "/", "~")) else model
    return name if document["method"] == "none" else f"{name} {document['method']}"


def _stages(documents: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (
            *((label(document),) if len(documents) > 1 else ()),
            stage,
            ", ".join(map(str, figures["layers"])) if len(figures["layers"]) < 5 else _range(figures["layers"]),
            mean_std(figures["mdi"], figures["mdi_std"]),
            _interval(figures.get("mdi_ci95")),
            number(figures.get("mdi_no_sinks")),
            mean_std(figures["aei"], figures["aei_std"]),
        )
        for document in documents
        for stage, figures in document["stages"].items()
    ]
    columns = ("stage", "layers", "MDI", "95% interval", "MDI without sinks", "AEI")
    return Table("Stages", columns if len(documents) == 1 else ("model", *columns), rows)


def _range(layers: Sequence[int]) -> str:
    return f"{layers[0]} to {layers[-1]}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
