"""What each step of the demo found, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.jobs.demo_scenes import SceneQuestion

BESIDE = ("yes_ratio", "recall")
"""Figures that part a gain bought by saying yes more often, or by naming less, from one that is none of these."""


def relying(document: Mapping[str, Any], truth: float) -> str:
    """MDI where the answer is made, and the prediction of reliance beside what is true."""
    late, found = document["stages"]["late"]["mdi"], document.get("reliance")
    mdi = "not defined" if late is None else f"{late:.2f}"
    if found is None:
        return f"{document['model']}: late MDI {mdi}; of one picture alone nothing can be exchanged."
    low, high = found["ci95"]
    return (
        f"{document['model']}: late MDI {mdi}; about {found['share']:.0%} of its answers follow the picture "
        f"(95% interval {low:.0%} to {high:.0%}). In truth {truth:.0%} do."
    )


def compared(document: Mapping[str, Any]) -> list[str]:
    """A benchmark's headline without and with each method, and whether the difference is more than chance."""
    return [_difference(document, pair) for pair in document["paired"]]


def _difference(document: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    name, before, after = document["headline"], *(document["methods"][pair[side]] for side in ("a", "b"))
    sentence = (
        f"{document['bench']}, {document['n']} items, {name.replace('_', ' ')}: {pair['a']} {_percent(before[name])}, "
    )
    sentence += f"{pair['b']} {_percent(after[name])}"
    if pair["delta"] is None or pair["ci95"] is None:
        return f"{sentence}."
    low, high = (100 * bound for bound in pair["ci95"])
    is_better = pair["delta"] > 0 if document["better"] == "larger" else pair["delta"] < 0
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


def strongest(document: Mapping[str, Any], question: SceneQuestion) -> str:
    """The part of the picture, hidden at one layer, that speaks most for the answer, beside all the others."""
    effects = [
        max(
            (
                (-(row[place] or 0.0), layer)
                for layer, row in zip(document["layer_numbers"], document["maps"]["logprob"], strict=True)
            )
        )
        for place in range(len(document["tokens"]))
    ]
    (effect, layer), place = max((found, place) for place, found in enumerate(effects))
    rest = max((abs(found) for other, (found, _) in enumerate(effects) if other != place), default=0.0)
    part = document["tokens"][place]
    where = "where it is" if question.holds(part["box"]) else "where it is not"
    return (
        f"Asked '{question.prompt}' it says {document['baseline'].get('text', '').strip()!r}. Hiding {part['text']} of "
        f"the patches, {where}, in layer {layer} takes {effect:.2f} off the answer's log-probability; hiding any other "
        f"part, in any layer, at most {rest:.1g}."
    )
