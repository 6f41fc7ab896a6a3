"""The file of sightline train-data negatives: written whole or not at all, and what is in it."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.json import is_device

if TYPE_CHECKING:
    from sightline.data.training_sample import TrainingData, TrainingSample


def require_writable(out: Path, sources: Sequence[Path | None], force: bool) -> None:
    """InputError where the file is there already without --force, or is what is read."""
    if is_device(out):
        raise InputError(f"{out} is no file but a device or a pipe: give --out a file.")
    if out.exists() and not force:
        raise InputError(f"{out} exists: give --force to replace it, or another --out.")
    if out.exists() and any(source is not None and source.exists() and out.samefile(source) for source in sources):
        raise InputError(f"{out} is what is read: give another --out, or what cannot be used of it would be lost.")


def write_whole(out: Path, made: list[TrainingSample]) -> None:
    """The samples into a file that replaces another only once it is whole."""
    from sightline.data.training_files import write_training
    from sightline.files.json import write_error

    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_training(part, made)
        part.replace(out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise write_error(out.parent, error, "nothing is kept of it") from error
        raise InputError(f"{out} cannot be written ({error.strerror or error}): give --out another.") from error
    finally:
        with suppress(OSError):  # where the folder is none, there is nothing to take away
            part.unlink(missing_ok=True)


def document_of_file(found: TrainingData, made: list[TrainingSample], out: Path) -> dict[str, Any]:
    """The command's JSON document."""
    counted = Counter(sample.negative is not None for sample in made)
    return {
        "data": found.name,
        "out": str(out),
        "samples": len(made),
        "negatives": counted[True],
        "passed_over": len(found.bad),
    }
