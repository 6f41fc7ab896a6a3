"""COCO's annotation files: which images there are, what stands in them, and the captions that people wrote of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.files.jsonl import read_text

SPLITS = ("val2014", "train2014", "val2017", "train2017", "all2014")
"""Names of the files' splits: captions_<split>.json and instances_<split>.json."""


@dataclass(frozen=True)
class CocoSplit:
    """The annotations of one split.

    files       the name of each image's file, by image number, in the order of the captions file
    categories  the names of the categories of the objects in each image, by image number, each once
    captions    what people wrote about each image, by image number
    """

    name: str
    files: dict[int, str]
    categories: dict[int, set[str]]
    captions: dict[int, list[str]]


def image_number(name: Any) -> int | None:
    """The COCO number of an image named 42, "42", "COCO_val2014_000000000042" or "a/folder/000000000042.jpg"."""
    if isinstance(name, bool):
        return None
    if isinstance(name, int | float):
        return int(name) if name == name and abs(name) < 1e15 and int(name) == name else None
    found = _NAME.match(str(name).strip())
    return int(found.group(1)) if found else None


_NAME = re.compile(r"(?:.*[/\\])?(?:COCO_[a-zA-Z]+\d{4}_)?0*(\d{1,15})(?:\.[a-zA-Z]{3,4})?$", re.ASCII)


def find_annotations(folder: Path, split: str) -> tuple[Path, Path]:
    """(captions file, instances file) of a split: in the folder, in its `annotations`, or anywhere below.

    Raises InputError, naming what is missing.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(
            f"The COCO folder {folder} {what}: give a folder with annotations/captions_{split}.json, "
            f"annotations/instances_{split}.json and, for asking a model, the images under {split}."
        )
    found = [_find_file(folder, f"{kind}_{split}.json") for kind in ("captions", "instances")]
    if found[0] is None or found[1] is None:
        lacking = " and ".join(
            f"{kind}_{split}.json" for kind, file in zip(("captions", "instances"), found, strict=True) if file is None
        )
        raise InputError(f"There is no {lacking} in {folder}, its folder annotations or below: CHAIR needs both files.")
    return found[0], found[1]


def _find_file(folder: Path, name: str) -> Path | None:
    for place in (folder / "annotations" / name, folder / name):
        if place.is_file():
            return place
    return next(iter(sorted(folder.rglob(name))), None)


def read_split(folder: Path, split: str) -> CocoSplit:
    """The annotations of a split; InputError when a file is missing, damaged or of another kind.

    Each file is read in one pass that keeps image numbers, categories and captions alone: outlines, which are most of
    instances_val2014.json, are dropped as they come.
    """
    captions_file, instances_file = find_annotations(folder, split)
    files, captions = _read_captions(captions_file)
    return CocoSplit(split, files, _read_instances(instances_file), captions)


def _read_captions(path: Path) -> tuple[dict[int, str], dict[int, list[str]]]:
    document = read_document(path)
    captions: dict[int, list[str]] = {}
    files: dict[int, str] = {}
    for image in _entries(document, "images", path, ("id",)):
        files[_whole(image["id"], path)] = str(image.get("file_name") or "")
    for entry in _entries(document, "annotations", path, ("image_id", "caption")):
        number = _whole(entry["image_id"], path)
        files.setdefault(number, "")
        captions.setdefault(number, []).append(str(entry["caption"]))
    if not files:
        raise InputError(f'{path} names no image: a COCO captions file with "images" and "annotations" is expected.')
    return files, captions


def _read_instances(path: Path) -> dict[int, set[str]]:
    document = read_document(path, without_outline)
    names = {
        entry["id"]: str(entry["name"])
        for entry in _entries(document, "categories", path, ("id", "name"))
        if not isinstance(entry["id"], dict | list)
    }
    categories: dict[int, set[str]] = {}
    for entry in _entries(document, "annotations", path, ("image_id", "category_id")):
        category = entry["category_id"]
        if isinstance(category, dict | list) or category not in names:
            raise InputError(f'{path} has an object of the category {category!r}, which its "categories" do not name.')
        categories.setdefault(_whole(entry["image_id"], path), set()).add(names[category])
    return categories


def _as_it_is(entry: dict[str, Any]) -> dict[str, Any]:
    return entry


def without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """An object of an instances file by its image and category alone."""
    if "category_id" in entry:
        return {name: entry[name] for name in ("image_id", "category_id") if name in entry}
    return {} if "counts" in entry else entry


def read_document(path: Path, keep: Callable[[dict[str, Any]], dict[str, Any]] = _as_it_is) -> dict[str, Any]:
    """What a COCO file holds, each object of it as `keep` leaves it; InputError for a file of another kind."""
    try:
        document = json.loads(read_text(path), object_hook=keep)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "too deep"
        raise InputError(f"{path} is no whole JSON file ({reason}): unpack or download it again.") from error
    if not isinstance(document, dict):
        raise InputError(f'{path} is no COCO file: an object with "annotations" is expected.')
    return document


def entries_of(document: dict[str, Any], name: str, path: Path) -> list[Any]:
    """The list of this name; InputError where there is none."""
    entries = document.get(name)
    if not isinstance(entries, list):
        raise InputError(f'{path} has no list "{name}": a COCO annotation file is expected.')
    return entries


def _entries(document: dict[str, Any], name: str, path: Path, fields: Iterable[str]) -> list[dict[str, Any]]:
    """The list of this name, each with these fields; a captions file may lack its images."""
    entries = [] if name == "images" and name not in document else entries_of(document, name, path)
    for place, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or any(field not in entry for field in fields):
            wanted = " and ".join(f'"{field}"' for field in fields)
            raise InputError(f'{path}: entry {place} of "{name}" lacks {wanted}; a COCO annotation file is expected.')
    return entries


def _whole(value: Any, path: Path) -> int:
    number = image_number(value)
    if number is None:
        raise InputError(f"{path} has an image numbered {str(value)[:40]!r}; a whole number is expected.")
    return number


def read_image_list(path: Path) -> list[str]:
    """The images that a file names, in its order, each once: a line or an entry of a JSON array each.

    A line is a number, a file name, or an object with "image_id", "image", "file_name" or "id", so that a file of
    captions lists the images they are of. Raises InputError for a file that names none.
    """
    text = read_text(path)
    try:
        whole = json.loads(text)
        entries = whole if isinstance(whole, list) else [whole]
    except (ValueError, RecursionError):
        entries = [_line(line) for line in text.splitlines() if line.strip()]
    names = list(dict.fromkeys(filter(None, map(_image_name, entries))))
    if not names:
        raise InputError(f"The image list {path} names no image: a number or a file name a line is expected.")
    return names


def _line(line: str) -> Any:
    if not line.lstrip().startswith("{"):
        return line.strip()
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line.strip()


def _image_name(entry: Any) -> str:
    if isinstance(entry, dict):
        entry = next((entry[name] for name in ("image_id", "image", "file_name", "id") if name in entry), "")
    number = image_number(entry)
    return str(entry).strip() if number is None else str(number)
