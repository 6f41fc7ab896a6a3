"""What each mode of `impact` shows, in a page's words: its heading, chart, sentence and unit, and its finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sightline.knockout.head_maps import is_of_heads, ranked_heads
from sightline.knockout.result import ImpactMap


@dataclass(frozen=True)
class Meaning:
    """heading: of the part; chart: of each chart; shows: what the numbers are; unit: of the chart's axis."""

    heading: str
    chart: str
    shows: str
    unit: str


HIDING = Meaning(
    "What hiding does",
    "Effect of hiding, by layer",
    "Impact: each token is hidden from the model at a layer, and what that does to its answer is measured. This is "
    "what the model uses, where attention is only where it looks.",
    "",
)
HEADS = Meaning(
    "What heads do",
    "Effect of taking heads away, by layer",
    "Each head's output is taken away in turn, and what that does to the answer is measured.",
    "nats",
)
OF_MODE: dict[str, Meaning] = {
    "local": Meaning(
        "What hiding does to each layer",
        "Change of the layer's output, by layer",
        "Each token is hidden from one layer, and how far that layer's own output moves is measured; what the answer "
        "makes of it is another matter.",
        "L2 distance",
    ),
    "vision": Meaning(
        "What painting over does",
        "Effect of painting over, by part",
        "Parts of the picture are painted over, and what that does to the answer is measured.",
        "nats",
    ),
    "tower": Meaning(
        "What hiding does in the vision tower",
        "Effect of hiding in the vision tower, by layer",
        "Each patch is hidden from the others in a layer of the vision tower, and what that does to the answer is "
        "measured.",
        "nats",
    ),
    "deepstack": Meaning(
        "What added vision features do",
        "Effect of leaving features out, by layer",
        "The vision features that are added behind a layer are left out, and what that does to the answer is measured.",
        "nats",
    ),
    "patch": Meaning(
        "What restoring brings back",
        "Share of the answer restored, by layer",
        "States of one prompt are put into the other's pass: 1 brings back all of the difference between their "
        "answers, 0 nothing.",
        "share of the difference",
    ),
    "rollout": Meaning(
        "Attention rollout",
        "Attention rollout, by layer",
        "Attention of all layers from here to the last multiplied, residuals included: which positions could have "
        "reached the answer's row. It reads weights alone, and hides nothing.",
        "share of the row",
    ),
    "relevancy": Meaning(
        "Relevance by gradients",
        "Relevance by gradients, by layer",
        "Attention weighted by the gradient of the answer's logit, layers from here to the last multiplied: which "
        "positions speak for the answer. It reads one pass, and hides nothing.",
        "relevance (logits)",
    ),
    "gradient": Meaning(
        "Gradient x attention",
        "Gradient x attention, by layer",
        "In each layer alone, the answer row's attention weighted by the gradient of the answer's logit. It reads one "
        "pass, and hides nothing.",
        "relevance (logits)",
    ),
    "lens": Meaning(
        "The logit lens",
        "Confidence in the word, by layer",
        "States behind each layer are read by the model's own unembedding: how sure a position is of the word. It "
        "reads one pass, and hides nothing.",
        "probability",
    ),
    "locate": Meaning(
        "Heads that look at one place",
        "Attention of these heads",
        "The attention that the three heads of the lowest spatial entropy give to each patch, summed. It reads one "
        "pass, and hides nothing.",
        "attention, sum of three heads",
    ),
    "registers": Meaning(
        "Outliers in the vision tower",
        "Norm of the patches, by layer of the tower",
        "Norms of the patches behind each layer of the vision tower; a few that stand far above the others carry "
        "little of the picture.",
        "norm",
    ),
}
"""By mode; HIDING of others, HEADS of the unit head."""


def meaning_of(found: ImpactMap) -> dict[str, str]:
    """{"heading", "chart", "shows", "unit"} of a map."""
    return asdict(HEADS if is_of_heads(found) else OF_MODE.get(found.mode, HIDING))


def finding_of(name: str, maps: Sequence[ImpactMap], series: Mapping[str, Sequence[float]]) -> list[list[str]] | None:
    """The finding of what hides no tokens, as [text, tone]; None where there is nothing to say, or it hides tokens.

    name: what the run is called. series: by modality, a number a layer.
    """
    first = maps[0]
    word = str(first.baseline.get("text") or "its answer").strip()
    if is_of_heads(first):
        best = Counter(ranked_heads(each)[0]["head"] for each in maps).most_common(1)[0][0]
        return _parts(f"{name} owes “{word}” most to head ", best, ", of all heads that were taken away.")
    if first.mode in ("rollout", "relevancy"):
        image, text = (abs(series.get(key, [0.0])[0]) for key in ("image", "text"))
        verb = "attention rollout leads to" if first.mode == "rollout" else "relevance by gradients gives"
        return _share(f"Through all layers of {name}, {verb} the image ", image, text)
    if first.mode == "gradient":
        image, text = (sum(map(abs, series.get(key, []))) for key in ("image", "text"))
        return _share(f"In the layers of {name}, gradient x attention gives the image ", image, text)
    values = list(series.get("image") or next(iter(series.values()), []))
    if not values:
        return None
    at = max(range(len(values)), key=values.__getitem__)
    layer, most = first.layers[at], values[at]
    if first.mode == "lens":
        return _parts(
            f"Image tokens of {name} are at most ", f"{100 * most:.2g}%", f" sure of “{word}”, behind layer {layer}."
        )
    if first.mode == "patch":
        return _parts(f"Restoring the image's states behind layer {layer} of {name} brings back ", f"{100 * most:.3g}%",
                      " of the difference between both answers, more than elsewhere.")  # fmt: skip
    if first.mode == "locate":
        return _located(name, maps)
    if first.mode == "registers":
        outliers, patches = (sum(int(each.baseline.get(key, 0)) for each in maps) for key in ("outliers", "patches"))
        return _parts(f"In the vision tower of {name} ", f"{outliers} of {patches}", " patches are outliers.")
    if first.mode == "tower":
        return _parts(f"Hiding patches in the vision tower of {name} does most in ", f"layer {layer}", ".")
    return None


def place_of(baseline: Mapping[str, Any]) -> str:
    """The box of the mode locate in words: "rows 1 to 2, columns 0 to 3 of the patches"."""
    top, left, bottom, right = baseline["box"]
    return f"{_span('row', top, bottom)}, {_span('column', left, right)} of the patches"


def _located(name: str, maps: Sequence[ImpactMap]) -> list[list[str]] | None:
    known = [each.baseline for each in maps if "heads" in each.baseline]
    if not known:
        return None
    names = [head for head, _ in Counter(head for each in known for head in each["heads"]).most_common(3)]
    where = f": {place_of(known[0])}" if len(maps) == 1 and "box" in known[0] else f", of {len(maps)} prompts"
    return _parts(f"Of {name} the heads ", ", ".join(names), f" look at one place{where}.")


def _share(before: str, image: float, text: float) -> list[list[str]] | None:
    if not image or not text:
        return None
    return _parts(before, f"{100 * image / (image + text):.1f}%", ", and the rest to the text.")


def _parts(before: str, strong: str, after: str) -> list[list[str]]:
    return [[before, ""], [strong, "strong"], [after, ""]]


def _span(noun: str, first: int, behind: int) -> str:
    return f"{noun} {first}" if behind - first == 1 else f"{noun}s {first} to {behind - 1}"
