"""Tiny benchmark tables in the official layouts, as the tests write them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def png(colour: str, size: tuple[int, int] = (8, 6)) -> bytes:
    """An encoded image of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def colour_of(image: Any) -> tuple[int, int, int]:
    """The colour of such an image, loaded as a Sample loads it."""
    from sightline.data.pictures import load_image

    pixel = load_image(image).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel[0], pixel[1], pixel[2]


def arrow_table(rows: Sequence[Mapping[str, Any]], images: Sequence[str]) -> Any:
    """Rows as the hub's parquet files have them: an image is a struct of its bytes and the path it had, or null."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name in images:
            values = [{"bytes": value, "path": None} if isinstance(value, bytes) else value for value in values]
        columns[name] = pa.array(values, kind if name in images else None)
    return pa.table(columns)


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], images: Sequence[str], group: int = 100) -> Path:
    """A parquet file in row groups of so many rows."""
    import pyarrow.parquet as parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow_table(rows, images), path, row_group_size=group)
    return path
