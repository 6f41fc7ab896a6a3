"""What a command works on: a JSON-lines file, a benchmark's items, the bundled scenes, or one sample of --image and
--prompt."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sightline.data.json_lines import read_samples
from sightline.data.sample import Sample
from sightline.errors import InputError, SightlineWarning
from sightline.files.digest import digest_of
from sightline.jobs.benchmark_items import find_asked, is_bench, question_digest

SHAPES = "shapes"
SINGLE = "1"
"""The id of the one sample of --image and --prompt."""

SHAPES_COUNT = 100
"""Bundled scenes that are drawn without --limit."""


@dataclass(frozen=True)
class Data:
    """Samples and what tells them from others.

    name: for tables and folder names. settings: what a run folder records of them. is_single: one sample of --image and
    --prompt, whose error is the command's.
    """

    name: str
    samples: tuple[Sample, ...]
    settings: dict[str, Any]
    is_single: bool = False


def find_data(
    data: str | None, images: Sequence[Path], prompt: str | None, limit: int | None, seed: int, **fields: Any
) -> Data:
    """The samples that --data, or --image and --prompt, stand for; InputError says what is wrong with them.

    fields: of a benchmark, as its split; without meaning for other data.
    """
    if data is not None and (images or prompt is not None):
        raise InputError("Give --data, or --image with --prompt, not both.")
    if data is None:
        return _single(images, prompt)
    if data == SHAPES:
        return _shapes(SHAPES_COUNT if limit is None else limit, seed)
    path = Path(data)
    if not path.exists() and is_bench(data):
        return _bench(data, limit, seed, fields)
    if not path.exists() and path.suffix not in (".jsonl", ".json"):
        raise InputError(
            f"The data {data} is neither a file nor `{SHAPES}`, the bundled scenes, nor a benchmark "
            "(`sightline list benches`)."
        )
    samples = tuple(islice(read_samples(path), limit))
    digest = digest_of(path)
    return Data(path.stem, samples, {"data": path.name, "data_sha256": digest})


def single_sample(images: Sequence[Path], prompt: str | None) -> Sample:
    """The sample of --image and --prompt, its images opened, so that an unusable one is told before a model loads."""
    if prompt is None:
        raise InputError("There is no prompt: give --prompt with what to ask.")
    sample = Sample(prompt=prompt, images=tuple(images))
    return replace(sample, images=tuple(sample.load_images()))


def _single(images: Sequence[Path], prompt: str | None) -> Data:
    if prompt is None and not images:
        raise InputError(
            f"There is nothing to measure: give --data FILE, --data {SHAPES}, or --image FILE with --prompt."
        )
    sample = single_sample(images, prompt)
    digests = [digest_of(path) for path in images]
    settings = {"images": [path.name for path in images], "images_sha256": digests, "prompt": prompt}
    return Data(images[0].stem if images else "text", (replace(sample, id=SINGLE),), settings, is_single=True)


def _bench(data: str, limit: int | None, seed: int, fields: dict[str, Any]) -> Data:
    """The items as samples; those that cannot be asked are told and left out."""
    asked = find_asked(data, seed=seed, limit=limit, **fields)
    samples: list[Sample] = []
    untold = [f"{bad.id}: {bad.error}" for bad in asked.bad]
    for item in asked.items:
        try:
            samples.append(asked.bench.sample(item))
        except InputError as error:
            untold.append(f"{item.id}: {error}")
    if not samples:
        raise InputError(f"Not one item of {data} can be asked; the first, {untold[0]}")
    if untold:
        told = f"{len(untold)} items of {data} cannot be asked and are left out; the first, {untold[0]}"
        warnings.warn(told, SightlineWarning, stacklevel=2)
    settings: dict[str, Any] = {"data": asked.name} | ({"fields": asked.fields} if asked.fields else {})
    if asked.path is not None:
        digests = "".join(question_digest(item) for item in asked.loaded)
        settings |= {"data_sha256": hashlib.sha256(digests.encode()).hexdigest()}
    return Data(asked.name, tuple(samples), settings)


def _shapes(count: int, seed: int) -> Data:
    from sightline.zoo import shapes_samples

    fields = ("id", "image", "prompt", "answer")
    drawn = shapes_samples(count, seed)
    samples = tuple(Sample(**{name: value for name, value in scene.items() if name in fields}) for scene in drawn)
    return Data(SHAPES, samples, {"data": SHAPES})
