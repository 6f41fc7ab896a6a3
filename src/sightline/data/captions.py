"""COCO's captions as training samples, an annotation each; what cannot be used is passed over and listed."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from sightline.data.coco import entries_of, read_document, without_outline
from sightline.data.training_sample import BadLine, TrainingData, TrainingSample, image_fault
from sightline.errors import InputError


def read_captions(
    path: Path, images: Path | None, instances: Path | None, prompt: str, limit: int | None
) -> TrainingData:
    """The captions of a COCO file. images: their folder; by default one of the split's name beside the file or above.

    Raises InputError when a file is no COCO file, or no folder of images is found.
    """
    document = read_document(path)
    names = {entry.get("id"): entry.get("file_name") for entry in _list(document, "images", path)}
    folder = _folder(path, names) if images is None else images
    if not folder.is_dir():
        raise InputError(f"The folder of images {folder} does not exist: give it with --images.")
    samples: list[TrainingSample] = []
    bad: list[BadLine] = []
    checked: dict[Any, str | None] = {}
    for number, entry in enumerate(_list(document, "annotations", path), start=1):
        if limit is not None and len(samples) == limit:
            break
        key, caption = entry.get("image_id"), entry.get("caption")
        if key not in checked:
            checked[key] = _image_fault(key, names, folder)
        fault = checked[key]
        if not isinstance(caption, str) or not caption.strip():
            fault = "the caption is missing, empty or no text"
        if fault or not isinstance(caption, str):
            bad.append(BadLine(f"{path}, annotation {number}", f"{fault}."))
            continue
        name = f"{key}-{entry.get('id', number)}"
        samples.append(TrainingSample(name, (folder / str(names[key]),), prompt, caption.strip()))
    texts: dict[str, list[str]] = defaultdict(list)
    for entry in _list(document, "annotations", path):  # all of them: a limit makes no sentence false
        if checked.get(entry.get("image_id"), "") is None:
            texts[str(folder / str(names[entry["image_id"]]))].append(str(entry.get("caption")))
    objects = {} if instances is None else _objects(instances, names, folder)
    captions = {key: tuple(found) for key, found in texts.items()}
    return TrainingData(path.stem, tuple(samples), tuple(bad), objects, captions)


def _image_fault(key: Any, names: dict[Any, Any], folder: Path) -> str | None:
    if not isinstance(names.get(key), str):
        return f'its image {key!r} is not among the "images"'
    return image_fault(folder / names[key])


def _folder(path: Path, names: dict[Any, Any]) -> Path:
    """Where the first images are: COCO unpacks to annotations/captions_val2014.json beside val2014."""
    split = path.stem.rpartition("_")[2]
    places = [path.parent / split, path.parent.parent / split, path.parent / "images", path.parent]
    first = [name for name in list(names.values())[:20] if isinstance(name, str)]
    for place in places:
        if any((place / name).is_file() for name in first):
            return place
    raise InputError(f"The images of {path} are in none of {', '.join(map(str, places))}: give --images FOLDER.")


def _objects(path: Path, names: dict[Any, Any], folder: Path) -> dict[str, dict[str, int]]:
    """How many objects of each category stand in each image, by image key; images without objects have none."""
    document = read_document(path, without_outline)
    categories = {entry.get("id"): str(entry.get("name")) for entry in _list(document, "categories", path)}
    counts: dict[str, Counter[str]] = {str(folder / str(name)): Counter() for name in names.values()}
    for entry in _list(document, "annotations", path):
        name, category = names.get(entry.get("image_id")), categories.get(entry.get("category_id"))
        if name is not None and category is not None:
            counts[str(folder / str(name))][category] += 1
    return {key: dict(found) for key, found in counts.items()}


def _list(document: dict[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    hashable = (str, int, float, type(None))
    return [
        entry
        for entry in entries_of(document, name, path)
        if isinstance(entry, dict) and all(isinstance(entry.get(key), hashable) for key in ("id", "image_id"))
    ]
