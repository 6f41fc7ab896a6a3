"""The first screen of a page: one sentence from the data, and the sample that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.methods.registry import known_methods

SURE = 0.05
"""A corrected p below which a difference is called one."""

Part = tuple[str, str]
"""Words, and how they are set: "", "strong", "good" or "bad"."""

PHRASES: dict[str, str] = {
    "chair_s": "invents objects in {value} of its captions",
    "chair_i": "invents {value} of the objects in its captions",
    "accuracy": "answers {value} of the questions of {bench} rightly",
    "a_acc": "answers {value} of the questions of {bench} rightly",
    "pair_accuracy": "answers both questions of {value} of the pairs of {bench} rightly",
    "g_acc": "answers all four questions of {value} of the groups of {bench} rightly",
}
"""What a headline says of a model; of others "scores VALUE on BENCH (NAME)"."""

SHARES = (*PHRASES, "f1", "mean_f1", "score", "recall", "precision")
"""Headlines that are shares from 0 to 1, written as percentages."""


def finding(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """{"parts", "notes", "sample", "methods"} of a document of `contents`; None where there is nothing to say.

    sample: the place of the sample that shows it, None for none. methods: whose answers to show of it.
    """
    for find in (_of_evaluations, _of_measurements, _of_impacts, _of_sinks, _of_training):
        found = find(document)
        if found is not None:
            return found
    return None


def p_text(value: float) -> str:
    """A p as it is printed: "p < 0.001", "p = 0.034", "p = 1"."""
    return "p < 0.001" if value < 0.001 else f"p = {float(f'{value:.2g}'):g}"


def method_name(label: str) -> str:
    """A method as its paper writes it, with the fields that the user gave: vcd:alpha=2 is VCD (alpha=2)."""
    name, _, fields = label.partition(":")
    kind = known_methods().get(name)
    shown = kind.__name__ if kind is not None and kind.__name__.lower() == name.replace("_", "") else name
    return f"{shown} ({fields.replace(',', ', ')})" if fields else shown


def _percent(value: float) -> str:
    return f"{100 * value:.{1 if 0 < value < 0.1 or 0.9 < value < 1 or (1000 * value) % 10 >= 0.5 else 0}f}%"


def _score(headline: str, value: float) -> str:
    return _percent(value) if headline in SHARES and 0 <= value <= 1 else f"{value:.3g}"


# Evaluations --------------------------------------------------------------------------------------------------------


def _of_evaluations(document: Mapping[str, Any]) -> dict[str, Any] | None:
    ranked = [(_strength(each), -place, each) for place, each in enumerate(document["evaluations"])]
    ranked = [entry for entry in ranked if _base(entry[2]) is not None]
    if not ranked:
        return None
    found = max(ranked)[2]
    pairs, best = _pairs(found), _best(found)
    base = _base(found)
    assert base is not None
    headline, values = str(found["headline"]), found["methods"]
    value = values[base][headline]
    phrase = PHRASES.get(headline, f"scores {{value}} on {{bench}} ({headline.replace('_', ' ')})")
    before, _, after = phrase.format(value="\0", bench=found["bench"]).partition("\0")
    under = "" if base == "none" else f" under {method_name(base)}"
    parts: list[Part] = [(f"{found['model']}{under} {before}", ""), (_score(headline, value), "strong"), (after, "")]
    notes = [f"{found['n']} items of {found['bench']}; {found['better']} is better."]
    if best is None:
        parts.append((_interval(headline, values[base]), ""))
        return _result(parts, notes, _pictured_sample(document, found), [base])
    p = best.get("p_holm", best["p_value"])
    reached = values[best["b"]][headline]
    is_sure = _is_better(found, best) and p < SURE
    if is_sure:
        tone, cost = "good", _cost(values, base, best["b"])
        parts += [("; ", ""), (method_name(best["b"]), "strong"), (" brings that to ", "")]
        parts += [(_score(headline, reached), tone), (f" ({p_text(p)}){cost}.", "")]
    else:
        name, shown = method_name(best["b"]), _score(headline, reached)
        only = "that" if len(pairs) == 1 else "none of the methods compared"
        if len(pairs) == 1:
            parts.append((f"; {name} does not change {only} beyond chance ({shown}, {p_text(p)}).", ""))
        else:
            parts.append((f"; {only} betters that beyond chance (the best, {name}: {shown}, {p_text(p)}).", ""))
    count = len(found["paired"])
    several = f", by Holm's method for all {count} comparisons" if count > 1 and "p_holm" in best else ""
    notes.append(f"p is of the difference, by an exact sign-flip test over independent units{several}.")
    methods = [base, best["b"]]
    return _result(parts, notes, _flipped_sample(document, found, best, is_good=is_sure), methods)


def _base(found: Mapping[str, Any]) -> str | None:
    """The method that others are held against, where it has a score."""
    methods, headline = found.get("methods") or {}, str(found.get("headline"))
    pairs = found.get("paired") or ()
    base = pairs[0]["a"] if pairs else next(iter(methods), None)
    return base if base in methods and _is_number(methods[base].get(headline)) else None


def _pairs(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Comparisons with a difference and a p, controls left out."""
    return [
        pair
        for pair in found.get("paired") or ()
        if pair["b"] not in found["controls"] and _is_number(pair.get("delta")) and _is_number(pair.get("p_value"))
    ]


def _best(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    sign = _sign(found)
    pairs = _pairs(found)
    sure = [pair for pair in pairs if pair.get("p_holm", pair["p_value"]) < SURE and sign * pair["delta"] > 0]
    return max(sure or pairs, key=lambda pair: float(sign * pair["delta"]), default=None)


def _strength(found: Mapping[str, Any]) -> tuple[bool, float]:
    """Whether its best method is better beyond chance, and how sure that is."""
    if _base(found) is None:
        return False, -2.0
    best = _best(found)
    if best is None:
        return False, -1.0
    p = float(best.get("p_holm", best["p_value"]))
    return _is_better(found, best) and p < SURE, 1.0 - p


def _sign(found: Mapping[str, Any]) -> int:
    return -1 if found.get("better") == "smaller" else 1


def _is_better(found: Mapping[str, Any], pair: Mapping[str, Any]) -> bool:
    return float(pair["delta"]) * _sign(found) > 0


def _interval(headline: str, values: Mapping[str, Any]) -> str:
    bounds = values.get(f"{headline}_ci95")
    return f" (95% {_score(headline, bounds[0])} to {_score(headline, bounds[1])})." if bounds else "."


def _cost(values: Mapping[str, Any], base: str, other: str) -> str:
    before, after = (values[name].get("seconds_per_item") for name in (base, other))
    if not (_is_number(before) and _is_number(after)) or not before:
        return ""
    times, bounds = values[other].get("times_the_first") or after / before, values[other].get("times_the_first_ci95")
    if 0.95 < times < 1.05 or (bounds and bounds[0] <= 1 <= bounds[1]):
        return " at the same time"
    is_sure = bounds or "times_the_first" not in values[other]
    return f" at {times:.1f} times the time" + ("" if is_sure else ", by too few batches to be sure of")


def _flipped_sample(
    document: Mapping[str, Any], found: Mapping[str, Any], pair: Mapping[str, Any], is_good: bool
) -> int | None:
    """A sample that the method sets right, or, where it does not help, any that it changes; else any with a picture."""
    flipped = pair.get("flipped") or {}
    names = [*flipped.get("b_only", ()), *([] if is_good else flipped.get("a_only", ()))]
    places = {str(sample["id"]): at for at, sample in enumerate(document["samples"]) if sample["run"] == found["run"]}
    known = [places[str(name)] for name in names if str(name) in places]
    pictured = next((place for place in known if document["samples"][place]["images"]), known[0] if known else None)
    return _pictured_sample(document, found) if pictured is None else pictured


def _pictured_sample(document: Mapping[str, Any], found: Mapping[str, Any]) -> int | None:
    samples = enumerate(document["samples"])
    return next((place for place, each in samples if each["run"] == found["run"] and each["images"]), None)


# Other runs ---------------------------------------------------------------------------------------------------------


def _of_measurements(document: Mapping[str, Any]) -> dict[str, Any] | None:
    known = [each for each in document["dominance"] if _is_number((each["stages"].get("late") or {}).get("mdi"))]
    if not known:
        return None
    first = known[0]
    alike = [each for each in known[1:] if each["run"] == first["run"]]
    late = first["stages"]["late"]
    before, times, after = _drawn(late["mdi"])
    parts: list[Part] = [(f"In the last layers of {first['name']} {before}", "")]
    parts += [(times, "strong"), (after, "")] if times else []
    bounds = late.get("mdi_ci95")
    parts.append((f" (95% of MDI: {bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else "", ""))
    others = [f"{_contrast(first, each)} {each['stages']['late']['mdi']:.2f}" for each in alike[:3]]
    if others:
        parts.append((f"; MDI {late['mdi']:.2f} becomes {', '.join(others)}", ""))
    parts.append((".", ""))
    notes = [f"{first['samples']} samples, queries {first['queries']}; attention is where a model looks, not why."]
    return _result(parts, notes, document["first"], [first["method"], *(each["method"] for each in alike[:1])])


def _contrast(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    if other["method"] not in (first["method"], "none"):
        return f"under {method_name(str(other['method']))}"
    return f"for {other['name']}"


def _drawn(mdi: float) -> tuple[str, str, str]:
    if mdi > 1.05:
        return "a text token draws ", f"{mdi:.1f} times", " the attention of an image token"
    if mdi < 0.95:
        return "an image token draws ", f"{1 / mdi:.1f} times" if mdi > 0 else "all", " the attention of a text token"
    return "text and image tokens draw alike", "", ""


def _of_impacts(document: Mapping[str, Any]) -> dict[str, Any] | None:
    for found in document["impact"]:
        if found["says"] is not None:
            prompts = f"{found['prompts']} prompt" + ("" if found["prompts"] == 1 else "s")
            place = next((at for at, sample in enumerate(document["samples"]) if sample["run"] == found["run"]), None)
            shown = [(text, tone) for text, tone in found["says"]]
            return _result(shown, [f"{prompts}: {found['measure']}. {found['shows']}"], place, ["none"])
        if found["acts"] != "hidden":
            continue
        sums = {name: sum(map(abs, values)) for name, values in found["series"].items()}
        image = sum(value for name, value in sums.items() if name != "text")
        if not image or not sums.get("text"):
            continue
        share = image / (image + sums["text"])
        prompts = f"{found['prompts']} prompt" + ("" if found["prompts"] == 1 else "s")
        parts: list[Part] = [(f"Of what hiding tokens does to {found['name']}, ", ""), (_percent(share), "strong")]
        parts.append((" comes from the image and the rest from text.", ""))
        notes = [f"{prompts}, mode {found['mode']}: sizes of {found['measure']}, summed over layers and sources."]
        place = next((at for at, sample in enumerate(document["samples"]) if sample["run"] == found["run"]), None)
        return _result(parts, notes, place, ["none"])
    return None


def _of_sinks(document: Mapping[str, Any]) -> dict[str, Any] | None:
    for found in document["sinks"]:
        dims = found.get("dims") or []
        notes = [f"{found.get('samples')} samples."]
        if not dims:
            return _result([(f"No hidden dimension of {found['model']} marks attention sinks.", "")], notes, None, [])
        named = ", ".join(map(str, dims[:3])) + (" and others" if len(dims) > 3 else "")
        parts: list[Part] = [
            (f"{found['model']} marks its attention sinks by hidden dimension ", ""),
            (named, "strong"),
        ]
        precision, recall = found.get("precision"), found.get("recall")
        known = _is_number(precision) and _is_number(recall)
        parts.append((f" (precision {precision:.2f}, recall {recall:.2f})." if known else ".", ""))
        return _result(parts, notes, None, [])
    return None


def _of_training(document: Mapping[str, Any]) -> dict[str, Any] | None:
    for found in document["training"]:
        points: Sequence[Sequence[float]] = found["series"].get("loss") or []
        if points:
            if len(points) == 1:
                step, value = points[0]
                parts: list[Part] = [(f"The loss of {found['name']} is ", ""), (f"{value:.2f}", "strong")]
                return _result([*parts, (f" at step {step:.0f}, the only one logged.", "")], [], None, [])
            parts = [(f"The loss of {found['name']} goes from {points[0][1]:.2f} to ", "")]
            parts += [(f"{points[-1][1]:.2f}", "strong"), (f" in {points[-1][0]:.0f} steps.", "")]
            return _result(parts, [], None, [])
    return None


def _result(parts: Sequence[Part], notes: Sequence[str], sample: int | None, methods: Sequence[str]) -> dict[str, Any]:
    shown = [[text, tone] for text, tone in parts if text]
    return {"parts": shown, "notes": list(notes), "sample": sample, "methods": list(methods)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
