"""Digests of files, by which a resumed run knows that its data are the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sightline.errors import InputError


def digest_of(path: Path, what: str = "file") -> str:
    """SHA-256 of a file's bytes, in hexadecimal. what: names it in the sentence.

    Raises:
        InputError: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(2**20):
                digest.update(piece)
            return digest.hexdigest()
    except OSError as error:
        raise InputError(f"The {what} {path} cannot be read ({error.strerror or error}).") from error
