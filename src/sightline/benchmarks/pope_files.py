"""POPE's label files, a file a split, and answers whose ids run over all splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.benchmarks.answer_fields import STRONG
from sightline.benchmarks.base import Item
from sightline.errors import InputError
from sightline.files.jsonl import Line, json_objects
from sightline.runs.description import RUN_FILE

_WORDS = (*STRONG, "answer", "caption")

SPLITS = ("random", "popular", "adversarial")


def label_files(path: Path, labels: str) -> dict[str, Path]:
    """The label file of each split, in the official order.

    labels: "pope" or "repope"; where a folder has files of both, as RePOPE's, only those. Raises InputError for a path
    without label files.
    """
    if path.is_file():
        return {_split_name(path): path}
    if not path.is_dir():
        raise InputError(f"The POPE data {path} does not exist: give a label file, or a folder with one file a split.")
    files = [file for file in sorted(path.iterdir()) if file.suffix in (".json", ".jsonl") and is_label_file(file)]
    if not files:
        raise InputError(
            f'The folder {path} holds no POPE file: .json files of lines {{"question_id", "image", "text", "label"}}, '
            "such as coco_pope_random.json, are expected."
        )
    corrected = [file for file in files if "repope" in file.stem.lower()]
    files = (corrected if labels == "repope" else [file for file in files if file not in corrected]) or files
    names = [_split_name(file) for file in files]
    if len(set(names)) < len(names):  # of several sources, as COCO's and GQA's: told apart by their whole names
        names = [file.stem for file in files]
    official = {name: place for place, name in enumerate(SPLITS)}
    return dict(sorted(zip(names, files, strict=True), key=lambda pair: (official.get(pair[0], 3), pair[0])))


def _split_name(file: Path) -> str:
    named = [split for split in SPLITS if split in file.stem.lower()]
    return named[0] if len(named) == 1 else file.stem


def is_label_file(file: Path) -> bool:
    """By its first object, so that COCO annotations beside it are not read whole."""
    try:
        with file.open("rb") as lines:
            start = lines.read(65_536)
    except OSError:
        return False
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):  # refused by name when it is read
        start = start.replace(b"\0", b"")
    return b'"label"' in start and (b'"text"' in start or b'"query"' in start)


def label_lines(file: Path) -> list[Line]:
    """The lines of a label file; POPEv2's objects, of "query" and "image_name", in the words of the others."""
    return [
        line._replace(
            value={
                **line.value,
                "text": line.value["query"],
                "image": str(line.value.get("image_name") or "").lstrip("/"),
            }
        )
        if line.value is not None and "query" in line.value and "text" not in line.value
        else line
        for line in json_objects(file)
    ]


def answer_lines(path: Path) -> list[dict[str, Any]] | None:
    """The lines of a folder's answers files, each with its split; None for what is no such folder.

    A file's split is the one that its name holds. Raises InputError for a line that is no object.
    """
    if not path.is_dir() or (path / RUN_FILE).exists():
        return None
    files = {split: [file for file in sorted(path.iterdir()) if _is_answers(file, split)] for split in SPLITS}
    if not any(files.values()):
        return None
    found = []
    for split, named in files.items():
        if len(named) > 1:
            raise InputError(f"{path} has several files of the split {split}: {named[0].name}, {named[1].name}.")
        for line in json_objects(named[0]) if named else ():
            if line.value is None:
                raise InputError(f"{named[0]}, line {line.number}: {line.error}; one JSON object a line is expected.")
            found.append({**line.value, "split": split})
    are_labels = all("label" in record and not any(name in record for name in _WORDS) for record in found)
    return None if are_labels else found


def _is_answers(file: Path, split: str) -> bool:
    return file.suffix in (".json", ".jsonl") and _split_name(file) == split


def in_order(lines: Sequence[tuple[Mapping[str, Any], str | None]], items: Sequence[Item]) -> list[Item | None] | None:
    """The item of each line where the questions of whole splits stand in their order.

    Lines that name their split are taken split by split; otherwise each split is looked for as a block of lines that
    ask its questions. None where a split is not there whole, or may stand in two places.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    named = [_group_of(record, groups) for record, _ in lines]
    if lines and all(named):
        return _by_group(named, lines, groups)
    known = [None if question is None else _plain(question) for _, question in lines]
    placed: list[Item | None] = [None] * len(lines)
    for members in groups.values():
        wanted = [_plain(str(item.about["question"])) for item in members]
        starts = [start for start in range(len(known) - len(wanted) + 1) if _stand(wanted, known, start)]
        if len(starts) > 1:
            return None
        for start in starts:
            span = slice(start, start + len(members))
            if any(item is not None for item in placed[span]):
                return None
            placed[span] = members
    return placed if any(item is not None for item in placed) else None


def _by_group(
    named: Sequence[str | None],
    lines: Sequence[tuple[Mapping[str, Any], str | None]],
    groups: Mapping[str, Sequence[Item]],
) -> list[Item | None] | None:
    placed: list[Item | None] = []
    counts = dict.fromkeys(groups, 0)
    for group, (_, question) in zip(named, lines, strict=True):
        members = groups[group or ""]
        place = counts[group or ""]
        if place >= len(members):
            return None
        if question is not None and _plain(str(members[place].about["question"])) not in _plain(question):
            return None
        counts[group or ""] += 1
        placed.append(members[place])
    is_whole = all(count in (0, len(groups[group])) for group, count in counts.items())
    return placed if is_whole else None


def _group_of(record: Mapping[str, Any], groups: Mapping[str, Any]) -> str | None:
    found = (record.get(name) for name in ("category", "split"))
    return next((value for value in found if isinstance(value, str) and value in groups), None)


def _stand(wanted: Sequence[str], known: Sequence[str | None], start: int) -> bool:
    return all(
        question is not None and due in question
        for due, question in zip(wanted, known[start : start + len(wanted)], strict=True)
    )


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
