"""The tables of `measure` and `demo`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.cli.output import Output
from sightline.text import mean_std, number

MASSES = {"text_mass": "text", "image_mass": "image", "video_mass": "video", "audio_mass": "audio"}


def show_measured(output: Output, documents: Sequence[dict[str, Any]]) -> None:
    """Tables by layer and by stage; `documents` are `measure` documents, one a model and method."""
    if len(documents) == 1:
        _show_layers(output, documents[0])
    else:
        _compare_layers(output, documents)
    _show_stages(output, documents)


def show_published(output: Output, rows: Sequence[dict[str, Any]]) -> None:
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
    output.table(f"Published: {rows[0]['source']}", ("", "ours", "published", "difference", "within 1 sd"), cells)
    if not rows[0]["same_queries"]:
        output.text("The published figures are of another query set.")
    for stage, note in {row["stage"]: row["note"] for row in rows if row["note"]}.items():
        output.text(f"The published {stage} row {note}.")


def _title(document: dict[str, Any]) -> str:
    method = "" if document["method"] == "none" else f" with {document['method']}"
    failed = f", {document['failed']} failed" if document["failed"] else ""
    plural = "" if document["samples"] == 1 else "s"
    return f"{document['model']}{method}: {document['samples']} sample{plural}{failed}, queries {document['queries']}"


def _show_layers(output: Output, document: dict[str, Any]) -> None:
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
    output.table(_title(document), columns, rows)


def _compare_layers(output: Output, documents: Sequence[dict[str, Any]]) -> None:
    by_layer = [{layer["layer"]: layer for layer in document["layers"]} for document in documents]
    layers = sorted({layer for layers in by_layer for layer in layers})
    rows = [
        (
            str(layer),
            *(mean_std(known[layer]["mdi"], known[layer]["mdi_std"]) if layer in known else "" for known in by_layer),
        )
        for layer in layers
    ]
    output.table("MDI by layer", ("layer", *map(label, documents)), rows)


def label(document: dict[str, Any]) -> str:
    """A document's name among others: the model, a folder by its last name, and the method if there is one."""
    model = document["model"].rstrip("/")
    name = model.rsplit("/", 1)[-1] if model.startswith((".", "/", "~")) else model
    return name if document["method"] == "none" else f"{name} {document['method']}"


def _show_stages(output: Output, documents: Sequence[dict[str, Any]]) -> None:
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
    output.table("Stages", columns if len(documents) == 1 else ("model", *columns), rows)


def _range(layers: Sequence[int]) -> str:
    return f"{layers[0]} to {layers[-1]}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
