"""What a model is trained on: JSON lines, COCO captions, or the bundled world.

A line that cannot be used is listed with its sentence and passed over; where none can be used, that is the error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.data.answer_words import Word, word_fault
from sightline.data.captions import read_captions
from sightline.data.json_lines import text_lines, write_samples
from sightline.data.messages import IMAGE_MARKER
from sightline.data.shapes_training import shapes_training
from sightline.data.training_sample import BadLine, TrainingData, TrainingSample, image_fault, image_key
from sightline.errors import InputError

SHAPES = "shapes"
PROMPT = "Describe the image."
"""What a caption answers, where the data do not say."""


def read_training(
    data: str | Path,
    *,
    images: Path | None = None,
    instances: Path | None = None,
    labels: Path | None = None,
    prompt: str = PROMPT,
    limit: int | None = None,
    seed: int = 0,
) -> TrainingData:
    """The training samples that a name or a file stands for.

    Args:
        data: `shapes`; a JSON-lines file of {"id", "image" or "images", "prompt"?, "answer", "words"?, "negative"?,
            "negative_words"?}; or a COCO captions file (.json).
        images: the folder of the images of a COCO file; by default the split's folder beside it.
        instances: COCO's instances file: the objects of each image, for negatives.
        labels: a JSON-lines file with a line for each sample, {"words": [[start, end, label], ...]}, in the same order.
        prompt: of samples that have none.
        limit: only the first so many usable samples; for `shapes` how many are drawn (2,000 without).

    Raises:
        InputError: when there is no such file, it is of another kind, or not one entry can be used.
    """
    given = [name for name, value in (("images", images), ("instances", instances)) if value is not None]
    if given and Path(data).suffix != ".json":
        raise InputError(f"{data} is no COCO captions file (.json), which alone takes --{given[0]}: leave it out.")
    if str(data) == SHAPES:
        found = TrainingData(SHAPES, tuple(shapes_training(2000 if limit is None else limit, seed)))
    else:
        path = Path(data)
        if not path.exists():
            raise InputError(
                f"The training data {path} does not exist: give a JSON-lines file, a COCO captions file (.json), or "
                f"`{SHAPES}`, the bundled world."
            )
        if path.is_dir():
            raise InputError(f"The training data {path} is a folder: give a JSON-lines or COCO captions file.")
        if path.suffix == ".json":
            found = read_captions(path, images, instances, prompt, limit)
        else:
            found = _read_lines(path, prompt, limit)
    if not found.samples:
        if not found.bad:
            raise InputError(
                f"The training data {data} hold no sample: give at least one, with an image and an answer."
            )
        first = found.bad[0]
        raise InputError(f"Not one sample of {data} can be trained on; the first, {first.where}: {first.error}")
    return found if labels is None else replace(found, samples=_labelled(found, labels))


def _labelled(data: TrainingData, path: Path) -> tuple[TrainingSample, ...]:
    if data.bad:
        raise InputError(f"{data.bad[0].where}: {data.bad[0].error} (with a label file no line may be passed over)")
    lines = [(number, line) for number, line in enumerate(text_lines(path), start=1) if line.strip()]
    if len(lines) != len(data.samples):
        raise InputError(
            f"The label file {path} has {len(lines)} lines and the data {len(data.samples)} samples: give a line each."
        )
    labelled = []
    for sample, (number, line) in zip(data.samples, lines, strict=True):
        try:
            words = _record(line).get("words")
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}.") from error
        fault = word_fault(words, sample.answer)
        if fault:
            raise InputError(f"{path}, line {number}: {fault} (sample {sample.id!r}).")
        labelled.append(replace(sample, words=tuple(map(tuple, words or ()))))
    return tuple(labelled)


# JSON lines ----------------------------------------------------------------------------------------------------------


def _read_lines(path: Path, prompt: str, limit: int | None) -> TrainingData:
    samples: list[TrainingSample] = []
    bad: list[BadLine] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        if limit is not None and len(samples) == limit:
            break
        try:
            sample = _parsed(_record(line), str(number), path.parent, prompt)
            if sample.id in seen:
                raise ValueError(f"the id {sample.id!r} is already that of line {seen[sample.id]}")
        except ValueError as error:
            bad.append(BadLine(f"{path}, line {number}", f"{error}."))
            continue
        seen[sample.id] = number
        samples.append(sample)
    return TrainingData(path.stem, tuple(samples), tuple(bad), captions=_captions(samples))


def _captions(samples: Iterable[TrainingSample]) -> dict[str, tuple[str, ...]]:
    texts: dict[str, list[str]] = {}
    for sample in samples:
        texts.setdefault(image_key(sample), []).append(sample.answer)
    return {key: tuple(found) for key, found in texts.items()}


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({getattr(error, 'msg', 'nested too deeply')})") from error
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return record


def _parsed(record: Mapping[str, Any], number: str, folder: Path, prompt: str) -> TrainingSample:
    """A sample; ValueError with half a sentence where the record is none."""
    images = _images(record, folder)
    prompt = prompt if record.get("prompt") is None else record["prompt"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError('the "prompt" is empty or no text')
    if (count := prompt.count(IMAGE_MARKER)) not in (0, len(images)):
        raise ValueError(f"the prompt marks places for {count} images and there are {len(images)}")
    answer = _text(record, "answer" if "answer" in record else "caption", "the answer")
    name = record.get("id")
    negative = None if record.get("negative") is None else _text(record, "negative", "the negative")
    if negative is None and record.get("negative_words") is not None:
        raise ValueError('there are "negative_words" and no "negative"')
    return TrainingSample(
        id=number if name is None else str(name),
        images=images,
        prompt=prompt,
        answer=answer,
        words=_words(record.get("words"), answer, ""),
        negative=negative,
        negative_words=_words(record.get("negative_words"), negative or "", "in the negative, "),
    )


def _text(record: Mapping[str, Any], name: str, what: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is missing, empty or no text")
    return value


def _words(value: Any, text: str, where: str) -> tuple[Word, ...] | None:
    if value is None:
        return None
    fault = word_fault(value, text)
    if fault:
        raise ValueError(where + fault)
    return tuple((start, end, label) for start, end, label in value)


def _images(record: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    value = record.get("images") if record.get("image") is None else record["image"]
    names = value if isinstance(value, list) else [] if value is None else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("there is no image")
    paths = tuple(folder / name for name in names)
    for path in paths:
        if fault := image_fault(path):
            raise ValueError(fault)
    return paths


def write_training(path: Path, samples: Iterable[TrainingSample]) -> None:
    """A JSON-lines file that `read_training` reads back; pictures in memory are saved beside it as PNG."""
    many = list(samples)
    write_samples(path, (sample.question() for sample in many))
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8") as file:
        for record, sample in zip(records, many, strict=True):
            for name in ("words", "negative", "negative_words"):
                if getattr(sample, name) is not None:
                    record[name] = getattr(sample, name)
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


# The bundled world ---------------------------------------------------------------------------------------------------
