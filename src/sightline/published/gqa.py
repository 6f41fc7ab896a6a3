"""Questions of arXiv 2411.18620: its own CSV files of GQA questions, or JSON lines, with the right answers."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path

from sightline.data.json_lines import read_samples
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.files.digest import digest_of

COLUMNS = ("question_id", "img_id", "question", "answer")
FOLDERS = ("images", "gqa/images", "", "../images", "../gqa/images")
"""Where a CSV's images are looked for, beside it."""


def read_questions(path: str | Path, limit: int | None = None) -> tuple[list[Sample], str]:
    """The questions in their order, and the SHA-256 of the file. The prompt is the question alone.

    A CSV has the columns question_id, img_id, question and answer; images are `img_id`.jpg in one of `FOLDERS`.

    Raises:
        InputError: for a file that is missing, has other columns, no rows, an id twice, or no images beside it.
    """
    file = Path(path)
    digest = digest_of(file, "data file")
    if file.suffix.lower() != ".csv":
        return list(islice(_answered(file), limit)), digest
    return _of_csv(file, limit), digest


def _answered(file: Path) -> list[Sample]:
    samples = read_samples(file)
    lacking = next((sample.id for sample in samples if sample.answer is None), None)
    if lacking is not None:
        raise InputError(f"Sample {lacking} of {file} has no answer, by which the model's own is judged: give one.")
    return samples


def _of_csv(file: Path, limit: int | None) -> list[Sample]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(islice(csv.DictReader(lines), limit))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is no CSV file of UTF-8 text: give {', '.join(COLUMNS)}.") from error
    if not rows:
        raise InputError(f"{file} has no question.")
    missing = [name for name in COLUMNS if rows[0].get(name) is None]
    if missing:
        raise InputError(f"{file} has no column {missing[0]!r}; it needs {', '.join(COLUMNS)}.")
    folder = _image_folder(file, rows[0]["img_id"])
    samples: dict[str, Sample] = {}
    for number, row in enumerate(rows, start=2):
        name = str(row["question_id"])
        if name in samples:
            raise InputError(f"{file}, row {number}: the question_id {name!r} stands there twice.")
        if not (row["question"] or "").strip() or row["answer"] is None:
            raise InputError(f"{file}, row {number}: the question or its answer is missing.")
        samples[name] = Sample(row["question"], (folder / _jpg(row["img_id"]),), answer=row["answer"], id=name)
    return list(samples.values())


def _image_folder(file: Path, first: str) -> Path:
    places = [file.parent / name for name in FOLDERS]
    found = next((place for place in places if (place / _jpg(first)).is_file()), None)
    if found is None:
        raise InputError(
            f"The image {_jpg(first)} of {file} is not beside it: put GQA's images into the folder {places[0]}."
        )
    return found


def _jpg(name: str) -> str:
    return name if ".jpg" in name else f"{name}.jpg"
