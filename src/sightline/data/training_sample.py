"""What a model is trained on: a true answer about an image, and optionally a false one beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.data.answer_words import Word, content_words
from sightline.data.sample import Sample

if TYPE_CHECKING:
    from sightline.data.pictures import ImageLike


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

    def question(self) -> Sample:
        """The question alone."""
        return Sample(prompt=self.prompt, images=self.images, answer=self.answer, id=self.id)


@dataclass(frozen=True)
class BadLine:
    """An entry that cannot be trained on: where it stands, and one sentence."""

    where: str
    error: str


@dataclass(frozen=True)
class TrainingData:
    """The samples of a file, and what is known of their images.

    name: for tables
    samples: in the file's order
    bad: what was passed over
    objects: how many of each stand in an image, by the image's key (see `image_key`), where known
    captions: all texts about an image, by its key: what a negative must not repeat
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


def image_fault(path: Path) -> str | None:
    """What is wrong with an image file, as half a sentence, judged by its name and size; None: nothing."""
    try:
        if not path.exists():
            return f"its image {path} does not exist"
        if path.is_dir():
            return f"its image {path} is a folder"
        return f"its image {path} is empty (zero bytes)" if path.stat().st_size == 0 else None
    except (OSError, ValueError) as error:  # a NUL byte, or a name that is too long
        return f"its image has an impossible name ({error})"
