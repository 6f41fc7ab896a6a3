"""Published MDI and AEI beside ours, and what does not add up in the published rows.

Figures: arXiv 2508.10552, Table 1 (models) and Table 2 (LLaVA-1.5-7B with [CLS]-guided token compression); and a
reproduction on a 4-bit LLaVA-1.5-7B with prompt rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.probes.dominance.result import DominanceResult

STAGES = ("early", "middle", "late")
_ROUNDING = 0.005


@dataclass(frozen=True)
class PublishedRow:
    """A published setting. mdi, aei: early, middle, late. mdi_std, aei_std: where the source gives them."""

    name: str
    source: str
    queries: str
    mdi: tuple[float, float, float]
    aei: tuple[float, float, float]
    mdi_std: tuple[float, float, float] | None = None
    aei_std: tuple[float, float, float] | None = None
    note: str = ""


def _row(name: str, numbers: tuple[float, ...], table: str, note: str = "") -> PublishedRow:
    source = f"arXiv 2508.10552, {table}"
    return PublishedRow(name, source, "generated", tuple(numbers[0::2]), tuple(numbers[1::2]), note=note)  # type: ignore[arg-type]


_ONE, _TWO = "Table 1", "Table 2"
PUBLISHED: dict[str, PublishedRow] = {
    row.name: row
    for row in (
        _row("llava-1.5-7b", (1.58, 1.04, 10.23, 3.51, 17.37, 4.23), _ONE, "MMMU-Pro"),
        _row("videollama3-7b", (19.14, 17.90, 140.10, 73.75, 157.53, 76.26), _ONE, "MMBench-Video"),
        _row("qwen2-audio-7b-x1", (1.02, 1.32, 3.24, 1.99, 1.16, 1.08), _ONE, "IEMOCAP"),
        _row("qwen2-audio-7b-x5", (2.65, 2.56, 8.09, 5.17, 6.73, 4.31), _ONE, "IEMOCAP, audio tokens repeated 5 times"),
        _row(
            "qwen2-audio-7b-x10", (2.80, 2.50, 10.10, 5.46, 8.70, 5.09), _ONE, "IEMOCAP, audio tokens repeated 10 times"
        ),
        _row("chatts-14b-x1", (1.52, 1.19, 4.37, 1.40, 3.52, 1.37), _ONE),
        _row("chatts-14b-x5", (2.08, 1.95, 10.72, 3.15, 9.28, 3.03), _ONE, "series tokens repeated 5 times"),
        _row("chatts-14b-x10", (2.36, 2.67, 20.70, 5.37, 16.25, 5.13), _ONE, "series tokens repeated 10 times"),
        _row("graphgpt-7b-x1", (0.14, 0.84, 0.14, 0.84, 0.20, 0.90), _ONE),
        _row("graphgpt-7b-x5", (0.20, 0.69, 0.35, 0.83, 0.69, 0.98), _ONE, "graph tokens repeated 5 times"),
        _row("graphgpt-7b-x10", (0.31, 0.71, 0.68, 0.97, 1.35, 1.14), _ONE, "graph tokens repeated 10 times"),
        _row("llava-1.5-7b-75", (0.57, 0.71, 1.81, 1.33, 3.39, 1.64), _TWO, "75% of the image tokens dropped"),
        _row("llava-1.5-7b-90", (0.57, 0.80, 1.10, 1.03, 1.84, 1.17), _TWO, "90% of the image tokens dropped"),
        _row(
            "llava-1.5-7b-95",
            (0.48, 0.82, 0.86, 0.97, 3.39, 1.64),
            _TWO,
            "95% of the image tokens dropped; the late cell repeats that of 75%, likely a misprint",
        ),
        PublishedRow(
            "llava-1.5-7b-4bit-prompt",
            "a reproduction with 4-bit weights on MMMU-Pro vision, 92 of 100 samples",
            "prompt",
            (2.19, 5.72, 4.47),
            (1.43, 1.84, 1.77),
            (1.17, 3.55, 3.49),
            (0.54, 0.94, 0.95),
            "its token counts (2009 text, 576 image) bound AEI by 1.29, which its AEI exceeds",
        ),
    )
}


def implied_text_share(mdi: float, aei: float) -> float | None:
    """Q_T, the share of text tokens, that makes AEI = MDI / (1 + Q_T (MDI - 1)); None at MDI = 1 or AEI = 0."""
    if mdi == 1 or aei == 0:
        return None
    return (mdi / aei - 1) / (mdi - 1)


def identity_notes(row: PublishedRow) -> dict[str, str]:
    """By stage, a sentence where MDI and AEI can't be of one set of tokens.

    The identity holds for each sample exactly, so it puts AEI between 1 and MDI, and all stages of one setting, having
    the same tokens, must imply nearly the same share of text (means over samples blur it; 0.15 is let pass).
    """
    shares = {}
    for stage, mdi, aei in zip(STAGES, row.mdi, row.aei, strict=True):
        low, high = sorted((1.0, mdi))
        if not low - _ROUNDING <= aei <= high + _ROUNDING:
            shares[stage] = f"AEI {aei} does not lie between 1 and MDI {mdi}, as AEI = MDI / (1 + Q (MDI - 1)) demands"
    implied = {
        stage: share
        for stage, mdi, aei in zip(STAGES, row.mdi, row.aei, strict=True)
        if stage not in shares and (share := implied_text_share(mdi, aei)) is not None
    }
    if len(implied) > 1:
        usual = median(implied.values())
        for stage, share in implied.items():
            if abs(share - usual) > 0.15:
                shares[stage] = (
                    f"implies that {share:.0%} of the tokens are text where the other stages imply {usual:.0%}"
                )
    return shares


def beside_published(result: DominanceResult, name: str) -> list[dict[str, Any]]:
    """Our stages beside a published row.

    Returns one dictionary for each stage and index: stage, index, ours, ours_std, published, difference,
    within_one_std (None where there is no deviation), same_queries, note.

    Raises:
        InputError: for a name that is not in `PUBLISHED`.
    """
    row = PUBLISHED.get(name)
    if row is None:
        raise InputError(f"There is no published row named '{name}'; there are {', '.join(sorted(PUBLISHED))}.")
    notes = identity_notes(row)
    return [
        _compared(result, row, stage, position, index, notes)
        for position, stage in enumerate(STAGES)
        for index in ("mdi", "aei")
    ]


def _compared(
    result: DominanceResult, row: PublishedRow, stage: str, position: int, index: str, notes: Mapping[str, str]
) -> dict[str, Any]:
    figures = result.stage_figures[stage][index]
    published = (row.mdi if index == "mdi" else row.aei)[position]
    difference = None if figures.mean is None else figures.mean - published
    within = None if difference is None or figures.std is None else abs(difference) <= figures.std
    return {
        "stage": stage,
        "index": index,
        "ours": figures.mean,
        "ours_std": figures.std,
        "published": published,
        "difference": difference,
        "within_one_std": within,
        "same_queries": result.queries == row.queries,
        "source": row.source,
        "note": notes.get(stage),
    }
