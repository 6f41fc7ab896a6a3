"""A model with its processor: load it, put samples in its own words, let it answer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.models.anatomy import Anatomy, find_anatomy
from sightline.models.layout import TokenLayout, layout_of
from sightline.models.layout.by_hand import GivenLayout, read_layout
from sightline.models.vlm.encoding import encode_samples
from sightline.models.vlm.loading import find_source, load_model, load_processor


def load(
    name: str | Path,
    dtype: Any = "auto",
    device: Any = "auto",
    revision: str | None = None,
    quantize: str | None = None,
    layout: str | Path | GivenLayout | None = None,
) -> VLM:
    """Load a vision-language model, or a causal language model, with its processor.

    Args:
        name: a bundled name (`sightline list models`), a local folder, or a hub name such as "owner/model"
            or "owner/model@revision".
        dtype: "auto" (as the weights are stored), "float32", "bfloat16", "float16", or a torch dtype.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
        revision: a branch, tag or commit of a hub model.
        quantize: "4bit" or "8bit", by bitsandbytes on a CUDA GPU.
        layout: where text and image stand, for a model that does not tell: a layout file, or one read by `read_layout`.

    Raises:
        ModelError: in one sentence, when the model cannot be found, reached, loaded or read.
        InputError: for an unknown dtype, device or quantisation.
    """
    given = read_layout(layout) if isinstance(layout, str | Path) else layout
    source = find_source(name, revision)
    model = load_model(source, dtype, device, quantize)
    anatomy = find_anatomy(model)
    model = anatomy.model  # of an any-to-any model, the part that writes text
    processor = load_processor(source, model, anatomy.is_multimodal)
    commit = getattr(model.config, "_commit_hash", None) or source.revision
    return VLM(model, processor, source.name, anatomy, commit, given)


@dataclass(frozen=True, eq=False, repr=False)
class VLM:
    """A model, its processor, and where everything is.

    Attributes:
        model: the Transformers model, in evaluation mode.
        processor: its processor; for a text-only model its tokenizer.
        name: as it was given to `load`.
        anatomy: the parts of the model.
        revision: the commit it was loaded from, where known.
        given_layout: the layout given by hand instead of the one read from the inputs.
    """

    model: Any
    processor: Any
    name: str
    anatomy: Anatomy
    revision: str | None = None
    given_layout: GivenLayout | None = None

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
        samples: Sample | Sequence[Sample],
        *,
        allow_text_only: bool = False,
        endings: Sequence[str] = (),
        device: Any = None,
        **options: Any,
    ) -> Any:
        """What the model's forward takes, on its device: token ids, masks, pixels and so on, left-padded.

        Args:
            samples: one, or a list for a batch. The chat template is applied where the model has one; else the image
                tokens are put before the words.
            allow_text_only: lets a vision-language model read a prompt without an image.
            endings: what follows each prompt behind the words that ask for an answer, as the answer itself in training.
            device: where to put the inputs instead of the model's own device.
            options: more keyword arguments for the processor.

        Raises:
            InputError: for an unreadable image, an empty prompt, or a prompt without the image the model expects.
        """
        from transformers import BatchFeature

        many = [samples] if isinstance(samples, Sample) else list(samples)
        if not many:
            raise InputError("There are no samples to encode: give at least one.")
        inputs = encode_samples(self.processor, self.anatomy, many, allow_text_only, options, endings)
        names = _accepted(self.model)
        accepted = {name: value for name, value in inputs.items() if name in names}
        place = self.device if device is None else torch.device(device)
        return BatchFeature(accepted).to(place, dtype=getattr(self.model, "dtype", torch.float32))

    def layout(self, inputs: Mapping[str, Any]) -> TokenLayout:
        """Which position of encoded inputs is text, image, video, audio or padding, and the patch grids."""
        if self.given_layout is not None:
            return self.given_layout.fit(inputs)
        return layout_of(self.anatomy, inputs, self.processor)

    def generate(self, inputs: Mapping[str, Any], max_new_tokens: int = 64, **options: Any) -> Any:
        """The model's answer: a string for a batch of one, else a list of strings. Greedy unless told otherwise.

        Args:
            options: more keyword arguments for the model's `generate`, as `do_sample=True`.
        """
        tokens = self.generate_tokens(inputs, max_new_tokens, **options)
        texts = [self.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens]
        return texts[0] if len(texts) == 1 else texts

    def generate_tokens(self, inputs: Mapping[str, Any], max_new_tokens: int = 64, **options: Any) -> list[list[int]]:
        """The ids of the new tokens of each answer, the end token included, the padding behind it not."""
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens is {max_new_tokens}: give at least 1.")
        settings: dict[str, Any] = {"do_sample": False, **options}
        if not settings["do_sample"]:  # sampling settings of the model's own would only be warned about
            settings = {"temperature": None, "top_p": None, "top_k": None, **settings}
        if self.anatomy.pad_token_id is None:
            settings.setdefault("pad_token_id", self.tokenizer.pad_token_id)
        with torch.no_grad():
            output = self.model.generate(**inputs, max_new_tokens=max_new_tokens, **settings)
        rows = getattr(output, "sequences", output)
        prompt = inputs["input_ids"]
        copies = len(rows) // len(prompt)
        if rows.shape[1] >= prompt.shape[1]:
            start = rows[:, : prompt.shape[1]]
            if torch.equal(start, prompt.repeat_interleave(copies, 0)):
                rows = rows[:, prompt.shape[1] :]
        return [self._until_end(row) for row in rows.tolist()]

    def _until_end(self, row: list[int]) -> list[int]:
        ends = [place for place, token in enumerate(row) if token in self.anatomy.eos_token_ids]
        return row[: ends[0] + 1] if ends else row

    def check(self, inputs: Mapping[str, Any] | None = None) -> list[str]:
        """What is wrong with the reading of this model, a sentence each; nothing when all is well.

        One forward pass shows that the decoder runs as many positions as the layout has, and that each attention
        module found is one the logits depend on; the layout's grids are compared with the image positions.

        Args:
            inputs: encoded inputs to check with; without them a small grey picture and a short prompt.
        """
        from sightline.models.vlm.checks import check_model

        if inputs is None:
            inputs = self.encode(self._trial(), allow_text_only=True)
        return check_model(self.anatomy, inputs, self.layout(inputs))

    def _trial(self) -> Sample:
        from PIL import Image

        picture = Image.radial_gradient("L").convert("RGB")
        sees = self.anatomy.vision_tower is not None
        return Sample(prompt="What is this?", images=(picture,) if sees else ())

    def __str__(self) -> str:
        revision = f" at {self.revision}" if self.revision else ""
        weight = next(self.model.parameters())
        where = f"{type(self.processor).__name__}, {str(weight.dtype).removeprefix('torch.')} on {self.device}"
        return f"{self.name}{revision}: {where}\n{self.anatomy}"

    def __repr__(self) -> str:
        return str(self)


def _accepted(model: Any) -> set[str]:
    """Names of the inputs that the model's forward takes for reading; processors may hand out more, and labels."""
    names = set(inspect.signature(model.forward).parameters)
    return (names | set(inspect.signature(model.prepare_inputs_for_generation).parameters)) - {"labels"}
