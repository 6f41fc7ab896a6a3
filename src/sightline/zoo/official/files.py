"""What the writers share: endless scenes of a stream of their own, pictures as PNG, rows as parquet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.zoo.world import Scene, draw_scene

Tick = Callable[[int], object]
"""Called after each step how many more questions (CHAIR: pictures) are written."""

FIRST = 10**16
"""Scene numbers of benchmarks begin here; all of training and of the command line's `shapes` are smaller."""

BLOCK = 1_000_000


def fresh_scenes(stream: str, seed: int, fits: Callable[[Scene], object] = bool) -> Iterator[Scene]:
    """Endless scenes that no bundled model was trained on and no other stream draws; those alone that fit.

    stream: what they are for, "pope". A longer draw begins with the shorter one's scenes.
    """
    digest = hashlib.sha256(f"{stream}/{seed}".encode()).digest()
    start = FIRST + int.from_bytes(digest[:6], "big") * BLOCK
    return (scene for number in count(start) if fits(scene := draw_scene(number)))


def shares(total: int, parts: int) -> list[int]:
    """`total` split into `parts` whole numbers that differ by one at most, larger ones first; 7 in 3 is [3, 2, 2]."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def png_bytes(image: Image.Image) -> bytes:
    """The picture as PNG: at 48 pixels JPEG would smear colours from cell to cell."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_json(path: Path, value: Any) -> None:
    """One JSON document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


def write_parquet(path: Path, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as the hub stores a data set with pictures, so that `datasets` decodes them.

    columns: each name with its kind: "string", "strings" (a list of them) or "image" (PNG bytes in the row, or None).
    """
    import pyarrow as pa
    from pyarrow import parquet

    text = pa.string()
    kinds = {
        "string": text,
        "strings": pa.list_(text),
        "image": pa.struct([("bytes", pa.binary()), ("path", text)]),
    }
    value = {"dtype": "string", "_type": "Value"}
    features = {"string": value, "strings": {"feature": value, "_type": "Sequence"}, "image": {"_type": "Image"}}
    about = {"info": {"features": {name: features[kind] for name, kind in columns.items()}}}
    schema = pa.schema(
        [(name, kinds[kind]) for name, kind in columns.items()], metadata={"huggingface": json.dumps(about)}
    )
    filled = [{name: _cell(row.get(name), kind) for name, kind in columns.items()} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(filled, schema=schema), path)


def _cell(value: Any, kind: str) -> Any:
    return {"bytes": value, "path": None} if kind == "image" and value is not None else value
