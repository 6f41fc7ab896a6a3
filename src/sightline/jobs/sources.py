"""What a job works on: a JSON-lines file, a benchmark's items, the bundled scenes, or samples in memory."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.data.json_lines import read_samples, row_sample
from sightline.data.picture_names import picture_digest, picture_name
from sightline.data.sample import Sample
from sightline.data.sources import as_samples, samples_digest
from sightline.errors import InputError, SightlineWarning
from sightline.files.digest import digest_of
from sightline.jobs.benchmark_items import find_items, is_bench, question_digest
from sightline.runs.batch_size import first_batch_size
from sightline.zoo import shapes_samples

if TYPE_CHECKING:
    from sightline.models.vlm import VLM

SHAPES = "shapes"
SINGLE = "1"
"""The id of the one sample of --image and --prompt."""

SHAPES_COUNT = 100
"""Bundled scenes that are drawn without --limit."""


@dataclass(frozen=True)
class Data:
    """Samples and what makes them others than those of another run.

    name       for tables and folder names
    settings   what a run folder records of them
    is_single  one sample, whose error is the job's
    """

    name: str
    samples: tuple[Sample, ...]
    settings: dict[str, Any]
    is_single: bool = False

    def require_field(self, name: str | None) -> None:
        """InputError where a field is named that no sample has, with those that there are."""
        known = dict.fromkeys(each for sample in self.samples for each in sample.about)
        if name is not None and name not in known:
            raise InputError(f"No sample of {self.name} has a field {name!r}; there are {', '.join(known) or 'none'}.")


def find_data(data: Any, *, limit: int | None = None, seed: int = 0, **fields: Any) -> Data:
    """The samples that a job's `data` stands for; InputError says what is wrong with them.

    data: "shapes", a JSON-lines file, `BENCH` or `BENCH:PATH`, a `Sample`, several in a
    list, a DataFrame, a `datasets.Dataset`, dicts, or chat messages. fields: of a
    benchmark, as its split; without meaning for other data.
    """
    if isinstance(data, Data):
        return data
    if not isinstance(data, str | Path):
        return _in_memory(data, limit)
    if data == SHAPES:
        return _shapes(SHAPES_COUNT if limit is None else limit, seed)
    path = Path(data)
    if not path.exists() and is_bench(str(data)):
        return _bench(str(data), limit, seed, fields)
    if not path.exists() and path.suffix not in (".jsonl", ".json"):
        raise InputError(
            f"The data {data} is neither a file nor `{SHAPES}`, the bundled scenes, nor a benchmark "
            "(`sightline list benches`)."
        )
    samples = tuple(islice(read_samples(path), limit))
    return Data(path.stem, samples, {"data": path.name, "data_sha256": digest_of(path)})


def single_data(images: Sequence[str | Path], prompt: str | None) -> Data:
    """The one sample of a command's --image and --prompt."""
    if prompt is None and not images:
        raise InputError(
            f"There is nothing to measure: give --data FILE, --data {SHAPES}, or --image FILE with --prompt."
        )
    sample = single_sample(images, prompt)
    digests, names = [picture_digest(image) for image in images], [picture_name(image) for image in images]
    settings = {"images": names, "images_sha256": digests, "prompt": prompt}
    return Data(Path(names[0]).stem if images else "text", (replace(sample, id=SINGLE),), settings, is_single=True)


def single_sample(images: Sequence[str | Path], prompt: str | None) -> Sample:
    """The sample of --image and --prompt, its images opened, so that an unusable one shows before a model loads."""
    if prompt is None:
        raise InputError("There is no prompt: give --prompt with what to ask.")
    sample = Sample(prompt=prompt, images=tuple(images))
    return replace(sample, images=tuple(sample.load_images()))


def _in_memory(data: Any, limit: int | None) -> Data:
    """Samples that are there already, or what stands for them; each keeps its id, or is named by its place."""
    samples = tuple(as_samples(data, limit=limit))
    is_single = isinstance(data, Sample)
    return Data("sample" if is_single else "samples", samples, {"data_sha256": samples_digest(samples)}, is_single)


def _bench(data: str, limit: int | None, seed: int, fields: dict[str, Any]) -> Data:
    """The items as samples; those that cannot be used are named in a warning and left out."""
    found = find_items(data, seed=seed, limit=limit, **fields)
    samples: list[Sample] = []
    left_out = [f"{bad.id}: {bad.error}" for bad in found.bad]
    for item in found.items:
        try:
            samples.append(replace(found.bench.sample(item), about=item.fields))
        except InputError as error:
            left_out.append(f"{item.id}: {error}")
    if not samples:
        raise InputError(f"Not one item of {data} can be asked; the first, {left_out[0]}")
    if left_out:
        words = f"{len(left_out)} items of {data} cannot be asked and are left out; the first, {left_out[0]}"
        warnings.warn(words, SightlineWarning, stacklevel=2)
    settings: dict[str, Any] = {"data": found.name} | ({"fields": found.fields} if found.fields else {})
    if found.path is not None:
        digests = "".join(question_digest(item) for item in found.loaded)
        settings |= {"data_sha256": hashlib.sha256(digests.encode()).hexdigest()}
    return Data(found.name, tuple(samples), settings)


def _shapes(count: int, seed: int) -> Data:
    samples = tuple(row_sample(scene, scene["id"]) for scene in shapes_samples(count, seed))
    return Data(SHAPES, samples, {"data": SHAPES})


def sample_length(sample: Sample) -> tuple[int, int]:
    """Images count most, then words."""
    return len(sample.images), len(sample.prompt)


def sample_media(sample: Sample) -> tuple[bool, bool, bool]:
    """What a batch has in all its samples or in none."""
    return bool(sample.images), bool(sample.video), sample.audio is not None


def chosen_batch_size(size: int | Literal["auto"], vlm: VLM, samples: Sequence[Sample], new_tokens: int) -> int:
    """Samples in one pass, of a setting that may leave it open."""
    if size != "auto":
        return size
    longest = sorted(samples, key=sample_length, reverse=True)[:5]
    return first_batch_size(vlm, (partial(replace, sample) for sample in longest), new_tokens)
