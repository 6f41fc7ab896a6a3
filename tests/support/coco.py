"""COCO's annotation files, with few images in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 63, "name": "couch"}]


def write_split(
    folder: Path, split: str, images: dict[int, tuple[list[int], list[str]]], categories: Any = CATEGORIES
) -> None:
    """Annotation files in COCO's form: image number -> categories of its objects, captions."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        {"id": number, "file_name": f"COCO_{split}_{number:012d}.jpg", "height": 4, "width": 4} for number in images
    ]
    captions = [
        {"image_id": number, "id": number * 10 + place, "caption": caption}
        for number, (_, said) in images.items()
        for place, caption in enumerate(said)
    ]
    objects = [
        {
            "segmentation": [[1.0, 2.5, 3.0]] if place % 2 else {"counts": [3, 4], "size": [4, 4]},
            "iscrowd": 1 - place % 2,
            "image_id": number,
            "bbox": [0, 0, 1, 1],
            "category_id": category,
            "id": number * 100 + place,
        }
        for number, (there, _) in images.items()
        for place, category in enumerate(there)
    ]
    shared = {"info": {"year": 2014}, "licenses": [], "images": entries}
    (folder / f"captions_{split}.json").write_text(json.dumps({**shared, "annotations": captions}))
    document = {**shared, "annotations": objects, "categories": categories}
    (folder / f"instances_{split}.json").write_text(json.dumps(document))
