"""Telling the content of a model's folder from another's, without reading all of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sightline import zoo
from sightline.models.source import base_of, is_adapter

WHOLE = 2**24
"""Bytes up to which a file is read whole."""

BLOCKS, BLOCK = 1024, 4096
"""How many blocks of a larger file are read, evenly spaced, and their bytes: training changes every one of them."""

SETTINGS = {".json", ".jinja", ".model", ".txt"}
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}


def model_folder(name: str | Path) -> Path | None:
    """The folder of a bundled model or of a local one; None for what is no folder of a model, as a hub name."""
    folder = zoo.bundled_path(str(name)) if name in zoo.BUNDLED else Path(name).expanduser()
    return folder if (folder / "config.json").is_file() or is_adapter(folder) else None


def folder_fingerprint(folder: Path) -> str:
    """A short digest of a model's settings, tokenizer and weights: names, sizes and content.

    For adapters also of their base. Files of settings are read whole, of large weights a sample. Raises OSError for
    what cannot be read.
    """
    digest = hashlib.sha256()
    if is_adapter(folder) and (base := model_folder(base_of(folder)[0])) is not None:
        digest.update(folder_fingerprint(base).encode())
    for path in sorted(folder.iterdir()):
        if path.suffix not in SETTINGS | WEIGHTS or not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode("utf-8", "surrogatepass"))
        with path.open("rb") as file:
            if size <= WHOLE or path.suffix in SETTINGS:
                digest.update(file.read())
                continue
            for number in range(BLOCKS):
                file.seek(number * (size - BLOCK) // (BLOCKS - 1), os.SEEK_SET)
                digest.update(file.read(BLOCK))
    return digest.hexdigest()[:16]
