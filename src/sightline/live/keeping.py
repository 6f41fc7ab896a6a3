"""A view of the live page as a report: the same file as `sightline report` writes, of the answers that are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sightline
from sightline.live.answer import LiveAnswer
from sightline.pages.page import page

SHOWN = 90
"""Letters of a question and of an answer in the first sentence."""


def report_of(model: str, answers: Sequence[LiveAnswer]) -> str:
    """The page of some answers: those to one question of the same pictures stand side by side."""
    samples: dict[tuple[Any, ...], dict[str, Any]] = {}
    for answer in answers:
        question, document = answer.question, answer.document
        key = (question.prompt, question.view in ("as it is", ""), len(document["images"]), question.view)
        entry = samples.setdefault(
            key,
            {
                "run": 0,
                "id": answer.name,
                "prompt": question.prompt,
                "truth": None,
                "images": document["images"],
                "variants": [],
            },
        )
        name = ", ".join(part for part in (question.method, _view(question.view)) if part and part != "none")
        entry["variants"].append(
            {
                "name": name or "plain",
                "method": question.method,
                "answer": document["text"],
                "maps": document["maps"],
            }
        )
    return page(
        {
            "runs": [{"name": model, "command": "app", "samples": len(samples), "failed": 0, "notes": []}],
            "settings": _settings(model, answers),
            "finding": _finding(model, answers),
            "samples": list(samples.values()),
            "first": 0,
            "left": 0,
            **{name: [] for name in ("dominance", "sinks", "attended", "impact", "evaluations", "training")},
        }
    )


def _view(view: str) -> str:
    return {"blank": "blank picture", "another": "another picture", "without": "without picture"}.get(view, "")


def _settings(model: str, answers: Sequence[LiveAnswer]) -> list[dict[str, Any]]:
    rows = {
        "model": model,
        "methods": ", ".join(dict.fromkeys(answer.question.method for answer in answers)),
        "pictures": ", ".join(dict.fromkeys(answer.question.view for answer in answers)),
        "new tokens at most": str(answers[0].question.new_tokens),
        "earlier turns": str(len(answers[0].question.turns)),
        "sightline": sightline.__version__,
    }
    return [{"name": name, "values": [value], "differs": False} for name, value in rows.items()]


def _finding(model: str, answers: Sequence[LiveAnswer]) -> dict[str, Any]:
    first = answers[0]
    parts = [
        [f"To “{_short(first.question.prompt)}” {model} answers “", ""],
        [_short(first.document["text"]), "strong"],
    ]
    for other in answers[1:]:
        named = (other.question.method, _view(other.question.view))
        name = ", ".join(part for part in named if part and part != "none") or "the same settings"
        if other.document["text"] == first.document["text"]:
            parts.append([f"”, and the same with {name}: “", ""])
        else:
            parts += [[f"”; with {name} “", ""]]
        parts.append([_short(other.document["text"]), "strong"])
    parts.append(["”.", ""])
    return {"parts": parts, "notes": [], "sample": 0, "methods": [answer.question.method for answer in answers]}


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
