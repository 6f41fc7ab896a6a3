"""What a model is trained on: JSON lines, COCO captions, or the bundled world.

A line that cannot be used is listed with its sentence and passed over; where none can be used, that is the error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.json_lines import write_samples
from sightline.data.messages import IMAGE_MARKER
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.models.answer_tokens import Word, content_words, word_fault

if TYPE_CHECKING:
    from sightline.data.pictures import ImageLike

SHAPES = "shapes"
PROMPT = "Describe the image."
"""What a caption answers, where the data do not say."""


@dataclass(frozen=True)
class TrainingSample:
    """A true answer about an image, and optionally a false one beside it.

    id              names the sample within its data
    images          as in `Sample`; at least one
    prompt          the user's words
    answer          what the model is to say
    words           (start, end, label) of the answer's words: 1 grounded, 0 hallucinated; None: all content words are 1
    negative        an answer to the same prompt that is not true; None: there is none
    negative_words  as `words`, of the negative; None: none of it is labelled
    """

    id: str
    images: tuple[ImageLike, ...]
    prompt: str
    answer: str
    words: tuple[Word, ...] | None = None
    negative: str | None = None
    negative_words: tuple[Word, ...] | None = None

    @property
    def labelled(self) -> tuple[Word, ...]:
        """The words of the answer that carry a label."""
        return content_words(self.answer) if self.words is None else self.words

    def asked(self) -> Sample:
        """The question alone."""
        return Sample(prompt=self.prompt, images=self.images, answer=self.answer, id=self.id)


@dataclass(frozen=True)
class BadLine:
    """An entry that cannot be trained on: where it stands, and one sentence."""

    where: str
    error: str


@dataclass(frozen=True)
class TrainingData:
    """name: for tables. samples: in the file's order. bad: what was passed over. objects: by image, where known.

    captions: all that is said of an image, by the image's key (see `image_key`): what a negative must not say.
    """

    name: str
    samples: tuple[TrainingSample, ...]
    bad: tuple[BadLine, ...] = ()
    objects: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def image_key(sample: TrainingSample) -> str:
    """Samples of one image share it."""
    source = sample.images[0]
    return str(source) if isinstance(source, str | Path) else sample.id


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
            from sightline.data.captions import read_captions

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
    lines = [(number, line) for number, line in enumerate(_text_lines(path), start=1) if line.strip()]
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


def _text_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {number}: not UTF-8 text; a JSON-lines file is expected.") from error
    except OSError as error:
        raise InputError(f"The file {path} cannot be read ({error.strerror or error}).") from error


def _read_lines(path: Path, prompt: str, limit: int | None) -> TrainingData:
    samples: list[TrainingSample] = []
    bad: list[BadLine] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(_text_lines(path), start=1):
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
    return TrainingData(path.stem, tuple(samples), tuple(bad), captions=_said(samples))


def _said(samples: Iterable[TrainingSample]) -> dict[str, tuple[str, ...]]:
    said: dict[str, list[str]] = {}
    for sample in samples:
        said.setdefault(image_key(sample), []).append(sample.answer)
    return {key: tuple(texts) for key, texts in said.items()}


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
    asked = prompt if record.get("prompt") is None else record["prompt"]
    if not isinstance(asked, str) or not asked.strip():
        raise ValueError('the "prompt" is empty or no text')
    if (count := asked.count(IMAGE_MARKER)) not in (0, len(images)):
        raise ValueError(f"the prompt marks places for {count} images and there are {len(images)}")
    answer = _text(record, "answer" if "answer" in record else "caption", "the answer")
    name = record.get("id")
    negative = None if record.get("negative") is None else _text(record, "negative", "the negative")
    if negative is None and record.get("negative_words") is not None:
        raise ValueError('there are "negative_words" and no "negative"')
    return TrainingSample(
        id=number if name is None else str(name),
        images=images,
        prompt=asked,
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


def image_fault(path: Path) -> str | None:
    """What is wrong with an image file, as half a sentence, as far as its name and size tell; None: nothing."""
    try:
        if not path.exists():
            return f"its image {path} does not exist"
        if path.is_dir():
            return f"its image {path} is a folder"
        return f"its image {path} is empty (zero bytes)" if path.stat().st_size == 0 else None
    except (OSError, ValueError) as error:  # a NUL byte, or a name that is too long
        return f"its image has an impossible name ({error})"


def write_training(path: Path, samples: Iterable[TrainingSample]) -> None:
    """A JSON-lines file that `read_training` reads back; pictures in memory are saved beside it as PNG."""
    many = list(samples)
    write_samples(path, (sample.asked() for sample in many))
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8") as file:
        for record, sample in zip(records, many, strict=True):
            for name in ("words", "negative", "negative_words"):
                if getattr(sample, name) is not None:
                    record[name] = getattr(sample, name)
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


# The bundled world ---------------------------------------------------------------------------------------------------

STREAM = "ground"
"""The world's stream of scenes for training: no bundled model, sample or benchmark draws one of them."""

ASKED: tuple[str, ...] = ("caption", "existence", "caption", "colour")
"""What is asked of the scenes, in turn; the colour of a shape that stands there once, else a caption."""


def shapes_training(count: int, seed: int = 0, size: int = 48) -> Iterator[TrainingSample]:
    """`count` scenes of the bundled world, one question each; captions come with a false one and its labels.

    The pictures are drawn when their turn comes, and are the same for the same seed on every machine.
    """
    import random

    from sightline.data.negatives import shapes_negative
    from sightline.zoo import questions as ask
    from sightline.zoo.official.files import fresh_scenes
    from sightline.zoo.world import NEGATIVES

    makers: dict[str, Callable[..., ask.Question]] = {
        "caption": lambda scene, rng: ask.caption(scene, rng.choice(ask.CAPTION_PHRASES)),
        "existence": lambda scene, rng: rng.choice(ask.pope(scene, rng.choice(NEGATIVES), rng)),
        "colour": lambda scene, rng: (
            ask.colour(scene, rng.choice(single)) if (single := ask.single_shapes(scene)) else ask.caption(scene)
        ),
    }
    for number, scene in zip(range(count), fresh_scenes(STREAM, seed), strict=False):
        rng = random.Random(f"ground/{seed}/{number}")
        question = makers[ASKED[number % len(ASKED)]](scene, rng)
        sample = TrainingSample(
            f"shapes-{seed}-{number}", (DrawnImage(scene.seed or 0, size),), question.prompt, question.answer
        )
        yield shapes_negative(sample, scene, rng) if question.task == "caption" else sample


@dataclass(frozen=True)
class DrawnImage:
    """The picture of a scene, drawn each time it is read: an `EncodedImage` of a few bytes.

    scene: its number in the bundled world. size: side in pixels.
    """

    scene: int
    size: int = 48

    @property
    def name(self) -> str:
        """For errors."""
        return f"of scene {self.scene}"

    def read(self) -> bytes:
        """The picture as PNG."""
        from sightline.zoo.official.files import png_bytes
        from sightline.zoo.render import render
        from sightline.zoo.world import draw_scene

        return png_bytes(render(draw_scene(self.scene), self.size))
