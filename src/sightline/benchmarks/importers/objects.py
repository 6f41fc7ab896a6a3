"""Answers as one JSON object, {id: words} or {number: record} as OpenCompass writes them; and OpenAI's batch output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.files.jsonl import read_text


def object_records(path: Path, fields: frozenset[str]) -> list[dict[str, Any]] | None:
    """The records of a file that is one object of many; None for any other file.

    fields: names of a record's own fields, by which a single record is known.
    """
    text = read_text(path)
    if not text.lstrip().startswith("{"):
        return None
    try:
        whole = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None  # lines of JSON, or damaged, which reading them by line explains
    if not whole or fields & whole.keys():
        return None
    if all(isinstance(value, str) for value in whole.values()):
        return [{"id": name, "response": value} for name, value in whole.items()]
    if not all(isinstance(value, dict) for value in whole.values()):
        return None
    if list(whole) == list(map(str, range(len(whole)))):  # places, and no ids: the items' may be counted from 1
        return list(whole.values())
    return [{"id": name, **value} for name, value in whole.items()]


def is_batch(line: Mapping[str, Any]) -> bool:
    """Whether a line is of OpenAI's batch output: {"custom_id", "response": {"body": {"choices": [...]}}}."""
    return (
        "custom_id" in line and "response" in line and (line["response"] is None or isinstance(line["response"], dict))
    )


def batch_records(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The id that the asker gave, and the words; none where the request failed."""
    return [{"id": line["custom_id"]} | _words(line["response"]) for line in lines]


def _words(response: Any) -> dict[str, Any]:
    try:
        return {"response": response["body"]["choices"][0]["message"]["content"]}
    except (KeyError, IndexError, TypeError):
        return {}
