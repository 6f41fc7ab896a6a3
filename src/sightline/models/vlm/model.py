"""A model with its processor: load it, put samples in its own words, let it answer."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sightline.data.messages import is_messages
from sightline.data.sample import Sample
from sightline.data.sources import as_sample, is_inputs
from sightline.errors import InputError
from sightline.models.anatomy import Anatomy
from sightline.models.layout import TokenLayout, layout_of
from sightline.models.layout.by_hand import GivenLayout
from sightline.models.vlm.answers import Answer, answer, answer_tokens, run_generate, stream
from sightline.models.vlm.chat import thinks
from sightline.models.vlm.encoding import PreparedInputs, encode_samples
from sightline.models.vlm.generation import generation_record
from sightline.models.vlm.limits import refuse_endless_words, refuse_too_long
from sightline.models.vlm.reading import check_reading_of, trial
from sightline.models.vlm.tiles import TilePlaces


@dataclass(frozen=True, eq=False, repr=False)
class VLM:
    """A model, its processor, and where everything is.

    Attributes:
        model: the Transformers model, in evaluation mode.
        processor: its processor; for a text-only model its tokenizer; None for a model wrapped without one.
        name: as it was given to `load`.
        anatomy: the parts of the model.
        revision: the commit it was loaded from, where known.
        given_layout: the layout given by hand instead of the one read from the inputs.
        processor_fields, generation, chat: what is set anew for the processor, for generation, for the chat template.
        tiles: where the tiles of encoded pictures lie, for as long as the inputs are kept.
    """

    model: Any
    processor: Any
    name: str
    anatomy: Anatomy
    revision: str | None = None
    given_layout: GivenLayout | None = None
    processor_fields: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    chat: Mapping[str, Any] = field(default_factory=dict)
    tiles: TilePlaces = field(default_factory=TilePlaces)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer inside the processor."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def device(self) -> torch.device:
        """Where the input embedding is, and inputs go."""
        embedding = self.anatomy.embedding
        return next((embedding or self.model).parameters()).device

    def encode(
        self,
        samples: Any,
        *,
        allow_text_only: bool = False,
        endings: Sequence[str] = (),
        device: Any = None,
        **options: Any,
    ) -> Any:
        """What the model's forward takes, on its device: token ids, masks, pixels and so on, left-padded.

        Args:
            samples: a `Sample` or a conversation (chat messages), or a list for a batch; or what `prepare` made of
                some. The chat template is applied where the model has one; else the image tokens are put before the
                words.
            allow_text_only: lets a vision-language model read a prompt without an image.
            endings: what follows each prompt behind the words that ask for an answer, as the answer itself in training.
            device: where to put the inputs instead of the model's own device.
            options: more keyword arguments for the processor.

        Raises:
            InputError: for an unreadable image, an empty prompt, a prompt without the image the model expects, and a
                prompt of more positions than the model was made for.
        """
        from transformers import BatchFeature

        ready = samples
        if not isinstance(ready, PreparedInputs):
            ready = self.prepare(samples, allow_text_only=allow_text_only, endings=endings, **options)
        place = self.device if device is None else torch.device(device)
        names = _accepted(self.model)
        accepted = {name: value for name, value in ready.inputs.items() if name in names}
        found = BatchFeature(accepted).to(place, dtype=getattr(self.model, "dtype", torch.float32))
        self.tiles.note(self.processor, ready.pictures, found, ready.options)
        return found

    def prepare(
        self, samples: Any, *, allow_text_only: bool = False, endings: Sequence[str] = (), **options: Any
    ) -> PreparedInputs:
        """The part of `encode` that needs no model: pictures are read, and all is put in the processor's words.

        Another thread may do it while the model is at work. Raises InputError as `encode` does.
        """
        self.require_processor("encode a sample: give what its forward takes")
        many = [as_sample(each) for each in (samples if _is_list(samples) else [samples])]
        if not many:
            raise InputError("There are no samples to encode: give at least one.")
        options = {**self.processor_fields, **options}
        refuse_endless_words(self.anatomy, self.tokenizer, many)
        inputs, pictures = encode_samples(
            self.processor, self.anatomy, many, allow_text_only, options, endings, self.chat
        )
        refuse_too_long(self.anatomy, inputs, many)
        return PreparedInputs(inputs, pictures, options)

    def layout(self, inputs: Mapping[str, Any]) -> TokenLayout:
        """Which position of encoded inputs is text, image, video, audio or padding, and the patch grids."""
        if self.given_layout is not None:
            return self.given_layout.fit(inputs)
        return layout_of(self.anatomy, inputs, self.processor, self.tiles.find(inputs))

    def generate(self, inputs: Any, max_new_tokens: int = 64, **options: Any) -> Any:
        """The model's answer: a string for one prompt, a list of strings for several. Greedy by default.

        Args:
            inputs: encoded inputs; or a `Sample`, a conversation (chat messages), or a list of either.
            options: more keyword arguments for the model's `generate`, as `do_sample=True`.
        """
        self.require_processor("decode an answer: give generate_tokens")
        tokens = self.generate_tokens(self.inputs_of(inputs), max_new_tokens, **options)
        texts = [self.text_of(row) for row in tokens]
        return texts[0] if len(texts) == 1 and not _is_list(inputs) else texts

    def text_of(self, tokens: Sequence[int]) -> str:
        """An answer's tokens in words, without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def inputs_of(self, prompts: Any, *, allow_text_only: bool = False) -> Any:
        """What the model's forward takes, of encoded inputs (as they are), a sample, a conversation, or a list."""
        if is_inputs(prompts):
            return prompts
        many = list(prompts) if _is_list(prompts) else [prompts]
        return self.encode([as_sample(entry) for entry in many], allow_text_only=allow_text_only)

    def generate_tokens(self, inputs: Mapping[str, Any], max_new_tokens: int = 64, **options: Any) -> list[list[int]]:
        """The ids of the new tokens of each answer, the end token included, the padding behind it not."""
        return answer_tokens(self, inputs, run_generate(self, inputs, max_new_tokens, options))

    def ask(self, image: Any, prompt: str, *, method: Any = None, max_new_tokens: int = 64, **options: Any) -> Answer:
        """What the model says about an image, with its tokens, their log-probabilities and the seconds it took.

        Args:
            image: as a `Sample` takes it; a list of several; None for words alone.
            method: acts while the model answers, as `sl.VCD()`.
            options: more keyword arguments for the model's `generate`.
        """
        images = tuple(image) if isinstance(image, list | tuple) else () if image is None else (image,)
        inputs = self.inputs_of(Sample(prompt, images=images), allow_text_only=image is None)
        return answer(self, inputs, method, max_new_tokens, options)

    def stream(self, prompt: Any, *, method: Any = None, max_new_tokens: int = 64, **options: Any) -> Iterator[str]:
        """The answer in pieces, as soon as each is written; closing the iterator ends the generation.

        The model runs in a thread of its own, so that a method has to be given here: one that acts in a `with` around
        this call refuses the thread's passes.

        Args:
            prompt: encoded inputs, a `Sample`, or a conversation; one, not several.
            method: acts while the model answers.
            options: more keyword arguments for the model's `generate`.
        """
        return stream(self, self.inputs_of(prompt), method, max_new_tokens, options)

    def generation_record(self) -> dict[str, Any]:
        """How answers are chosen, for a run's record: the decoding, and the fields in force that change scores."""
        return generation_record(self.model, self.generation) | ({"thinks": True} if self.thinks else {})

    @property
    def thinks(self) -> bool:
        """Whether the model writes its thoughts before its answer, as its chat template shows."""
        return self.processor is not None and thinks(self.processor, self.chat, self.anatomy.is_multimodal)

    def require_processor(self, what: str) -> None:
        """InputError where there is none; what: cannot be done without one, and what to give instead."""
        if self.processor is None:
            raise InputError(
                f"{self.name} was wrapped without a processor and cannot {what}, or its processor to sightline.wrap."
            )

    def check(self, inputs: Mapping[str, Any] | None = None) -> list[str]:
        """What is wrong with the reading of this model, a sentence each; nothing when all is well.

        One forward pass and two decoding steps show that the decoder runs as many positions as the layout has, that a
        step is seen as one, that weights of a row sum to 1, and that the logits depend on the attention found; the
        layout's grids are compared with the image positions. `load` looks at the same with fewer passes.

        Args:
            inputs: encoded inputs to check with; without them a small grey picture and a short prompt.
        """
        if inputs is None:
            inputs = self.encode(trial(self), allow_text_only=True)
        return check_reading_of(self, inputs)

    def __str__(self) -> str:
        revision = f" at {self.revision}" if self.revision else ""
        weight = next(self.model.parameters())
        where = f"{type(self.processor).__name__}, {str(weight.dtype).removeprefix('torch.')} on {self.device}"
        return f"{self.name}{revision}: {where}\n{self.anatomy}"

    def __repr__(self) -> str:
        return str(self)


def _is_list(prompts: Any) -> bool:
    """Whether several prompts are given: not one sample, conversation or mapping."""
    return isinstance(prompts, Iterable) and not isinstance(prompts, Mapping | str) and not is_messages(prompts)


def _accepted(model: Any) -> set[str]:
    """Names of the inputs that the model's forward takes for reading; processors may hand out more, and labels."""
    names = set(inspect.signature(model.forward).parameters)
    return (names | set(inspect.signature(model.prepare_inputs_for_generation).parameters)) - {"labels"}
