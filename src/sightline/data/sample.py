"""Sample: a prompt or a conversation with its images and, where known, its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.messages import IMAGE_MARKER, Kind, Part, Turn, placed, read_turns
from sightline.data.pictures import load_image
from sightline.errors import InputError
from sightline.text import shortened

if TYPE_CHECKING:
    from PIL import Image

    from sightline.data.pictures import ImageLike


@dataclass(frozen=True)
class Sample:
    """What a model is to answer.

    prompt    the user's words, without the chat template; InputError when empty. Each `<image>` in it is the place of
              one image, in order; without any, the images stand before the words
    images    files, data: URIs, the bytes of a file, objects with `read() -> bytes`, or Pillow pictures, in the order
              the model sees them; nothing is opened before `load_images`. `image=` is a shortcut for a single one
    answer    the right answer, where known
    id        names the sample within its data set
    video     the frames of a video, in order
    audio     a sound file
    messages  a conversation in place of the prompt, as chat templates take it: {"role": "system" | "user" |
              "assistant", "content": words or a list of parts}. `prompt` is then the user's last words, and `images`
              those of all turns; images given beside fill the parts without content, else the places of `<image>`. A
              last turn of the assistant is the answer
    about     what else the data say of it by name, as its subject: results are split by it
    """

    prompt: str = ""
    images: tuple[ImageLike, ...] = ()
    answer: str | None = None
    id: str = ""
    video: tuple[ImageLike, ...] | None = None
    audio: str | Path | None = None
    messages: tuple[Turn, ...] | None = None
    about: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    image: InitVar[ImageLike | None] = None

    def __post_init__(self, image: ImageLike | None) -> None:
        if image is not None and self.images:
            raise InputError("A sample takes image= or images=, not both.")
        self._set("images", tuple(self.images) if image is None else (image,))
        if self.video is not None:
            self._set("video", tuple(self.video))
        if self.messages is not None:
            self._read_messages()
        elif not isinstance(self.prompt, str) or not self.prompt.strip():
            raise InputError(f"The prompt{self._where} is empty: give the words to ask the model.")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def _where(self) -> str:
        return f" of sample {shortened(repr(self.id))}" if self.id else ""

    def _read_messages(self) -> None:
        """Fill all fields from the conversation; those given beside it take their places in it."""
        turns = read_turns(self.messages, self._where)
        turns = placed(turns, "image", self.images, self._where)
        turns = placed(turns, "video", [self.video] if self.video else (), self._where)
        turns = placed(turns, "audio", [self.audio] if self.audio is not None else (), self._where)
        *before, last = turns
        if last.role == "assistant":
            if self.answer is not None and self.answer != last.text:
                raise InputError(f"The messages{self._where} end in an answer, and answer= is another: give one.")
            self._set("answer", last.text)
            turns = tuple(before)
        if not turns or turns[-1].role != "user":
            raise InputError(f"The messages{self._where} do not end with what the user says: there is nothing to ask.")
        if not turns[-1].text.strip() and all(part.kind == "text" for part in turns[-1].parts):
            raise InputError(f"The last words of the user{self._where} are empty: give the words to ask the model.")
        if self.prompt and self.prompt != turns[-1].text:
            raise InputError(f"The sample{self._where} has a prompt and messages: give one of them.")
        self._set("messages", turns)
        self._set("prompt", turns[-1].text)
        self._set("images", tuple(self.media("image")))
        videos, sounds = self.media("video"), self.media("audio")
        if len(videos) > 1 or len(sounds) > 1:
            kind = "video" if len(videos) > 1 else "sound"
            raise InputError(f"The messages{self._where} hold more than one {kind}: give one a sample.")
        self._set("video", videos[0] if videos else None)
        self._set("audio", sounds[0] if sounds else None)

    @property
    def has_media(self) -> bool:
        """Whether anything but text stands in the sample."""
        return bool(self.images) or bool(self.video) or self.audio is not None

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The conversation, of one user turn for a prompt: media before the words, images where these mark them."""
        if self.messages is not None:
            return self.messages
        first, *others = self.pieces()
        media = [] if others else [Part("image", image) for image in self.images]
        if self.video:
            media.append(Part("video", self.video))
        if self.audio is not None:
            media.append(Part("audio", self.audio))
        words = [Part("text", first)]
        for image, piece in zip(self.images if others else (), others, strict=True):
            words += [Part("image", image), Part("text", piece)]
        return (Turn("user", (*media, *(part for part in words if part.content != ""))),)

    @property
    def marks_places(self) -> bool:
        """Whether it matters where among the words an image stands."""
        if self.messages is not None:
            return any(turn.is_interleaved for turn in self.messages)
        return len(self.pieces()) > 1

    def media(self, kind: Kind) -> list[Any]:
        """The content of all parts of one kind, through all turns."""
        return [content for turn in self.turns for content in turn.media(kind)]

    def pieces(self) -> list[str]:
        """The prompt cut at its image markers: one piece more than there are images, or a single one without markers.

        Raises InputError when there are markers, but not as many as images.
        """
        if self.messages is not None:
            return [self.prompt]
        pieces = self.prompt.split(IMAGE_MARKER)
        if len(pieces) > 1 and len(pieces) - 1 != len(self.images):
            raise InputError(
                f"The prompt{self._where} marks places for images ({IMAGE_MARKER}: {len(pieces) - 1}), and the sample "
                f"has {len(self.images)}: give as many markers as images, or none."
            )
        return pieces

    def load_images(self) -> list[Image.Image]:
        """The images as upright RGB pictures of at most PIXEL_LIMIT pixels; InputError names the first unusable one."""
        return [load_image(image) for image in self.images]

    def load_video(self) -> list[Image.Image]:
        """The video's frames, as `load_images` does it; empty without a video."""
        return [load_image(frame) for frame in self.video or ()]
