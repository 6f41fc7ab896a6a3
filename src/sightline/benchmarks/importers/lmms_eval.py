"""What lmms-eval writes with --log_samples: a line a document, in its old form and in the new one.

New: {"doc_id", "target", "filtered_resps", "input", and a key a metric}; "filtered_resps" is text where there is one
request. Old: "resps" [["..."]], "filtered_resps" ["..."], and the document itself under "doc".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.files.jsonl import id_text

NAMES = ("question_id", "id", "idx", "index")
BESIDE = ("category", "sub_task", "subtask", "split", "set_id", "figure_id", "subcategory")


def is_sample(line: Mapping[str, Any]) -> bool:
    """Whether a line is lmms-eval's."""
    return "doc_id" in line and ("filtered_resps" in line or "resps" in line)


def sample_records(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records in the order of the documents: the words, the question, the target, and what names the item."""
    return [_record(line) for line in sorted(lines, key=lambda line: _number(line["doc_id"]))]


def metrics_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that a line's metrics are, by name: of an object its "score", "is_correct" or the like."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if name in ("doc_id", "doc", "token_counts") or name.endswith("_hash"):
            continue
        score = value
        if isinstance(value, Mapping):
            score = next((value[key] for key in SCORES if key in value), None)
        if isinstance(score, bool | int | float):
            found[name] = float(score)
    return found


SCORES = ("score", "is_correct", "correct", "hit", "acc", "accuracy", "exact_match")


def _record(line: Mapping[str, Any]) -> dict[str, Any]:
    document = line.get("doc") if isinstance(line.get("doc"), Mapping) else {}
    found: dict[str, Any] = {
        name: value for name, value in (document or {}).items() if isinstance(value, str | int | float | list)
    }
    for value in line.values():
        if isinstance(value, Mapping):
            found |= {name: value[name] for name in (*NAMES, *BESIDE) if name in value and name not in found}
            if "pair_index" in value and id_text(value.get("index")) is not None:  # MMVP's, counted from 0
                found["index"] = int(value["index"]) + 1
    found["filtered_resps"] = line.get("filtered_resps", line.get("resps"))
    if isinstance(line.get("input"), str):
        found.setdefault("question", line["input"])
    target = line.get("target")
    if isinstance(target, str):
        found["target"] = target
        if target.strip().lower() in ("yes", "no"):
            found.setdefault("label", target)
    found["metrics"] = metrics_of(line)
    found["doc_id"] = line["doc_id"]
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("inf")
