"""What a picture that is named, by a file or a data: URI, is called in a run folder, and known by."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sightline.data.pictures import is_address
from sightline.files.digest import digest_of


def named_picture(value: str) -> str | Path:
    """A word of the command line: an address as it is, for a path would lose one of its slashes; else a path."""
    return value if is_address(value) else Path(value)


def picture_name(image: str | Path) -> str:
    """A file's last name; of a data: URI its kind."""
    text = str(image)
    return text.partition(",")[0].partition(";")[0][:80] if is_address(text) else Path(text).name


def picture_digest(image: str | Path) -> str:
    """SHA-256 of a file's bytes, or of a data: URI as it is written. Raises InputError for an unreadable file."""
    text = str(image)
    if is_address(text):
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return digest_of(Path(image), "image")
