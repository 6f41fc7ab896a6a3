"""The tables of `impact`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.knockout.head_maps import agreement, is_of_heads, ranked_heads
from sightline.knockout.measures import ACTS, MEASURES
from sightline.knockout.result import ImpactMap
from sightline.pages.impact_words import place_of
from sightline.probes.dominance.stages import stage_layers
from sightline.results.table import Section, Sections
from sightline.stats import rank_correlation

if TYPE_CHECKING:
    from sightline.knockout.source import Source

TOP = 5
"""Sources a stage."""

HARDLY = 0.1
"""A row looks at the image by way of others where hiding it from the row alone does less than this share."""

HEADS = 10
"""Heads that are shown of each kind."""

SHOWN = 12
"""Sources without a partner that are named."""


def sections(document: dict[str, Any]) -> list[Section]:
    """What stands out in a document of `impact`, in words and tables."""
    found = Sections()
    if "prompts" in document:
        _show_prompts(found, document)
    elif "aligned" in document:
        _show_comparison(found, document)
    elif "new_tokens" in document:
        _show_answer(found, document)
    else:
        _show_map(found, document)
    return found


def _show_map(output: Sections, document: dict[str, Any]) -> None:
    found = ImpactMap.from_dict(document)
    if found.baseline:
        output.text(_answer(found))
    if is_of_heads(found):
        _show_heads(output, found)
        return
    if found.mode == "registers":
        output.text(_outliers(found))
    heads = [str(name) for name in found.baseline.get("heads", ())] if found.mode == "locate" else []
    if heads:
        output.text(f"The heads {', '.join(heads)} look at one place: {place_of(found.baseline)}.")
    name = found.measure
    rows = []
    for stage, layers in _stages(found).items():
        for rank, (source, effect) in enumerate(found.top(layers, TOP, name)):
            flips = _flips(found, source, layers)
            where = ", ".join(dict.fromkeys(name.partition(".")[0] for name in heads)) or _span(layers)
            words = (stage, where) if not rank else ("", "")
            rows.append((*words, _text(source), _where(source), _short(effect), flips))
    columns = ("stage", "layers", ACTS.get(found.mode, "hidden"), "where", name, "flips")
    keep = slice(None) if "flip" in found.maps else slice(0, 5)
    output.texts(f"Largest effects: {MEASURES[name]}", columns[keep], [row[keep] for row in rows])
    _show_sums(output, found, name)
    for note in found.estimate_notes():
        output.text(note)
    if "recovered" in found.maps:
        _show_pair(output, found)
    if found.reference:
        _show_reference(output, found)
    if document.get("every_row"):
        _show_parts(output, ImpactMap.from_dict(document["every_row"]))


def _outliers(found: ImpactMap) -> str:
    """How many patches of the vision tower are outliers, and the neurons that make them."""
    about = found.baseline
    if not about["neurons"]:
        return f"None of {about['patches']} patches is an outlier in the vision tower, so it has no register neurons."
    first = ", ".join(about["neurons"][:TOP])
    return (
        f"{about['outliers']} of {about['patches']} patches are outliers, of {about['ratio']:.1f} median norms on "
        f"average; register neurons (layer.neuron) that make them: {first}."
    )


def _show_heads(output: Sections, found: ImpactMap) -> None:
    """The heads that the token owes most to, those that work against it, and whether the gradient agrees."""
    ranked = ranked_heads(found)
    columns = ("head", "exact", "by gradient", "flips")
    for title, chosen in (
        ("Heads that the token owes most to: its log-probability without each", ranked[:HEADS]),
        ("Heads that work against it", ranked[: -HEADS - 1 : -1]),
    ):
        rows = [
            (entry["head"], _short(entry["logprob"]), _short(entry["gradient"]), str(int(entry["flip"])))
            for entry in chosen
            if (entry["logprob"] < 0) == (chosen[0] is ranked[0])
        ]
        if rows:
            output.table(title, columns, rows)
    _show_agreement(output, agreement(found), len(ranked))


def _show_pair(output: Sections, found: ImpactMap) -> None:
    """What the pair is answered with, and whether the gradient agrees with what restoring does."""
    words = [found.baseline.get("text", found.baseline["token"])]
    words.append(found.baseline.get("against_text", found.baseline["against"]))
    one, other = found.baseline["margins"]
    output.text(
        f"The one is answered {_quoted(str(words[0]))}, the other {_quoted(str(words[1]))}: a margin of {one:.2f} "
        f"against {other:.2f} in logits; 1 is all of the difference."
    )
    value = rank_correlation(found.maps["recovered"], found.maps["recovered_gradient"])
    _show_agreement(output, value, found.maps["recovered"].size, "layers and sources")


def _show_agreement(output: Sections, value: float | None, count: int, what: str = "heads") -> None:
    if value is None:
        output.text("The exact effects and the gradient's estimates do not vary, so there is no agreement to tell.")
        return
    output.text(
        f"Exact effects and the gradient's estimates agree in rank over {count} {what} by {value:.2f} (Spearman)."
    )


def _show_sums(output: Sections, found: ImpactMap, name: str) -> None:
    """How much a source of each modality does on average, beside the random controls."""
    values, rows = np.abs(found.values(name)), []
    for modality in dict.fromkeys(source.modality for source in found.tokens):
        mine = [place for place, source in enumerate(found.tokens) if source.modality == modality]
        rows.append((modality, str(len(mine)), _short(_mean(values[:, mine]))))
    for modality in dict.fromkeys(source.modality for source in found.controls):
        mine = [place for place, source in enumerate(found.controls) if source.modality == modality]
        controls = np.abs(found.control_maps[name][:, mine])
        rows.append((f"random {modality}, as control", str(len(mine)), _short(_mean(controls))))
    output.table(f"Mean size of the effect ({name}), over layers", ("", "sources", name), rows)


def _show_reference(output: Sections, found: ImpactMap) -> None:
    """Whether the row looks at the image itself, or knows it from other rows."""
    row, every = (found.reference[scope]["logprob"] for scope in ("row", "every-row"))
    output.text(
        f"All of the image hidden at every layer changes the log-probability by {_short(row)} if hidden from this row "
        f"alone, and by {_short(every)} if hidden from every row."
    )
    if abs(row) < HARDLY * abs(every):
        output.text("The row knows the image by way of other rows: --scope every-row cuts those as well.")


def _show_parts(output: Sections, found: ImpactMap) -> None:
    """The parts of the picture that the answer depends on most."""
    name = found.measure
    best = [f"{_where(source)} {_short(effect)}" for source, effect in found.top(found.layers, 3, name)]
    output.text(
        f"Parts of the image hidden from every row, at every layer ({name}): {'; '.join(best)} (overlay_every_row)."
    )


def _show_answer(output: Sections, document: dict[str, Any]) -> None:
    maps = [ImpactMap.from_dict(each) for each in document["new_tokens"]]
    output.text(f"{document['model']} answers: {document['text']}")
    rows = []
    for found in maps:
        best = found.top(found.layers, 3)
        names = "; ".join(
            f"{_text(source)} {_where(source)} {_short(effect)}".replace("  ", " ") for source, effect in best
        )
        rows.append((_quoted(str(found.baseline.get("text", ""))), f"{found.baseline['prob']:.3f}", names))
    output.texts(f"Largest effects on each token: {maps[0].measure}", ("token", "probability", "hidden"), rows)


def _show_comparison(output: Sections, document: dict[str, Any]) -> None:
    aligned, rest = document["aligned"], document["unaligned"]
    a, b = document["a"]["model"], document["b"]["model"]
    output.text(f"{len(aligned['tokens'])} tokens aligned; {len(rest['a'])} only in {a}, {len(rest['b'])} only in {b}.")
    for side, name in (("a", a), ("b", b)):
        words = [_quoted(entry["text"]) for entry in rest[side] if entry["row"] is None]
        patches = sum(entry["row"] is not None for entry in rest[side])
        listed = [
            *words[:SHOWN],
            *(["..."] if len(words) > SHOWN else []),
            *([f"{patches} patches"] if patches else []),
        ]
        if listed:
            output.text(f"Only in {name}: {', '.join(listed)}.")
    measure = next(iter(name for name in ("logprob", "l2") if name in aligned["a"]))
    left, right = (_means(aligned[side][measure]) for side in ("a", "b"))
    order = sorted(range(len(left)), key=lambda place: -max(abs(left[place]), abs(right[place])))[:15]
    rows = [
        (_quoted(aligned["tokens"][place]["text"]), _short(left[place]), _short(right[place]))
        for place in sorted(order)
    ]
    correlation = aligned["correlation"][measure]
    note = "" if correlation is None else f", correlation {correlation:.2f}"
    output.table(f"Mean over relative depth: {measure}{note}", ("hidden", a, b), rows)


def _show_prompts(output: Sections, document: dict[str, Any]) -> None:
    rows = []
    for entry in document["prompts"]:
        if "error" in entry:
            rows.append((entry["id"], "failed", entry["error"]))
            continue
        best = [f"{_quoted(top['text'])} {_short(top['effect'])}" for top in entry["top"][:3]]
        answer = " ".join(str(word) for word in entry["answers"] if word is not None)
        rows.append((entry["id"], answer or "-", "; ".join(best)))
    output.texts(f"{document['model']}: {len(rows)} prompts", ("prompt", "answer", "largest effects"), rows)
    if document.get("heads"):
        heads = document["heads"]
        worst = [(name, _short(effect)) for name, effect in zip(heads["heads"], heads["effects"], strict=True)]
        output.table(
            f"Heads that the tokens owe most to, mean over {heads['prompts']} prompts", ("head", "logprob"), worst
        )
    if document.get("localization"):
        seen = document["localization"]
        votes = [(name, str(count)) for name, count in zip(seen["heads"], seen["votes"], strict=True)]
        output.table(f"Heads that look at one place, of {seen['prompts']} prompts", ("head", "prompts"), votes)
    if document.get("registers"):
        named = document["registers"]
        first = [(name, _short(score)) for name, score in zip(named["neurons"], named["scores"], strict=True)]
        output.table(
            f"Register neurons, mean over the {named['pictures']} prompts with outliers",
            ("neuron", "activation"),
            first,
        )


def _answer(found: ImpactMap) -> str:
    word = found.baseline.get("text")
    token = f"token {found.baseline['token']}" if word is None else _quoted(str(word))
    prob = found.baseline["prob"]
    if "predicted_prob" not in found.baseline:
        return f"{found.model}: row {found.row} predicts {token} with probability {prob:.4f}."
    predicted = found.baseline.get("predicted_text", f"token {found.baseline['predicted']}")
    return (
        f"{found.model}: row {found.row} predicts {_quoted(str(predicted))} with probability "
        f"{found.baseline['predicted_prob']:.4f}; {token}, which is followed, has {prob:.3g}."
    )


def _stages(found: ImpactMap) -> dict[str, list[int]]:
    if len(found.layers) < 3:
        return {"all": list(found.layers)}
    return {stage: layers for stage, layers in stage_layers(found.layers, "thirds").items() if layers}


def _span(layers: Sequence[int]) -> str:
    return str(layers[0]) if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"


def _flips(found: ImpactMap, source: Source, layers: Sequence[int]) -> str:
    if "flip" not in found.maps:
        return ""
    place = found.tokens.index(source)
    rows = [index for index, layer in enumerate(found.layers) if layer in set(layers)]
    return str(int(np.nansum(found.maps["flip"][rows, place])))


def _text(source: Source) -> str:
    return _quoted(source.text) if source.modality == "text" else source.modality


def _where(source: Source) -> str:
    if source.row is None:
        return f"position {source.position}" if len(source.positions) == 1 else f"{len(source.positions)} positions"
    image = "" if not source.image else f"image {source.image + 1}, "
    return image + (source.text if source.kind == "patches" else f"row {source.row}, column {source.col}")


def _quoted(text: str) -> str:
    """A token as it can be printed, whatever it holds."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _short(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.3g}"


def _mean(values: Any) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _means(values: list[list[float | None]]) -> list[float]:
    table = np.array(values, dtype=np.float64)
    known = np.isfinite(table)
    means: list[float] = (np.where(known, table, 0.0).sum(0) / np.maximum(known.sum(0), 1)).tolist()
    return means
