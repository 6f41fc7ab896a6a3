"""Samples in a model's own words: chat template, image placeholders, left padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sightline.data.messages import IMAGE_MARKER
from sightline.errors import InputError
from sightline.models.vlm.audio import load_audio
from sightline.models.vlm.chat import conversation, keeps_places, templated
from sightline.models.vlm.processors import NoVideo

if TYPE_CHECKING:
    from PIL import Image

    from sightline.data.sample import Sample
    from sightline.models.anatomy import Anatomy


@dataclass(frozen=True, eq=False)
class PreparedInputs:
    """Samples encoded as far as no model is needed: `VLM.encode` takes them the rest of the way.

    inputs    what the processor made of them, on the CPU
    pictures  of each sample
    options   keyword arguments that the processor was given
    """

    inputs: Any = field(repr=False)
    pictures: Sequence[Sequence[Image.Image]] = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)


def encode_samples(
    processor: Any,
    anatomy: Anatomy,
    samples: Sequence[Sample],
    allow_text_only: bool,
    options: dict[str, Any],
    endings: Sequence[str] = (),
    chat: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Any, list[list[Image.Image]]]:
    """What the model's forward takes, a BatchFeature on the CPU, left-padded; and each sample's pictures.

    Args:
        options: more keyword arguments for the processor.
        endings: what follows each prompt behind the words that ask for an answer, as the answer itself in training.
        chat: fields for the chat template.

    Raises:
        InputError: for a multimodal model and a sample without media (unless `allow_text_only`), for media and a
            text-only model, when some samples have images and others none, and when a prompt marks places for
            images (`<image>`) but not for all.
    """
    for sample in samples:
        _check(sample, anatomy, allow_text_only)
    images = [sample.load_images() for sample in samples]
    videos = [sample.load_video() for sample in samples]
    if len({bool(of) for of in images}) > 1 or len({bool(of) for of in videos}) > 1:
        raise InputError("Samples with and without images cannot share a batch: encode them apart.")
    media: dict[str, Any] = {}
    if any(images):
        media["images"] = images
    if any(videos):
        _require_video(processor, anatomy)
        media["videos"] = [[frames] for frames in videos]
    if any(sample.audio for sample in samples):
        rate = _sampling_rate(processor)
        media["audio"] = [load_audio(sample.audio, rate) for sample in samples if sample.audio]
        options = {"sampling_rate": rate, **options}
    options = {"padding": True, "return_tensors": "pt", **options}
    if getattr(processor, "chat_template", None):
        return _with_template(processor, anatomy, samples, media, options, endings, chat), images
    if endings:
        samples = [replace(each, prompt=each.prompt + ending) for each, ending in zip(samples, endings, strict=True)]
    return _without_template(processor, anatomy, samples, media, options), images


def prompt_texts(
    processor: Any, anatomy: Anatomy, samples: Sequence[Sample], chat: Mapping[str, Any] = MappingProxyType({})
) -> list[str]:
    """Each prompt as the processor is given it, up to where the answer begins; bare without a chat template."""
    if not getattr(processor, "chat_template", None):
        return [_single_prompt(sample, anatomy) for sample in samples]
    has_places = anatomy.is_multimodal and any(sample.marks_places for sample in samples)
    token = _image_token(processor, anatomy) if has_places and not keeps_places(processor) else ""
    return [templated(processor, conversation(sample, anatomy, token), chat) for sample in samples]


def _single_prompt(sample: Sample, anatomy: Anatomy) -> str:
    """The words alone, for a model without a chat template; InputError for a conversation of several turns."""
    if sample.messages is not None and (len(sample.messages) > 1 or sample.marks_places):
        raise InputError(
            f"{type(anatomy.model).__name__} comes without a chat template and takes one prompt: give a sample with "
            "prompt= in place of messages."
        )
    return sample.prompt


def _check(sample: Sample, anatomy: Anatomy, allow_text_only: bool) -> None:
    where = f" of sample {sample.id!r}" if sample.id else ""
    sample.pieces()
    name = type(anatomy.model).__name__
    if anatomy.is_multimodal and not sample.has_media and not allow_text_only:
        hears = anatomy.audio_tower is not None and anatomy.vision_tower is None
        wanted, kind = ("sound", "an audio") if hears else ("an image", "a vision")
        raise InputError(f"The prompt{where} comes without {wanted}, and {name} is {kind}-language model: give one.")
    if not anatomy.is_multimodal and sample.has_media:
        raise InputError(f"The prompt{where} comes with media, and {name} reads text alone: leave them out.")


def _with_template(
    processor: Any,
    anatomy: Anatomy,
    samples: Sequence[Sample],
    media: dict[str, Any],
    options: dict[str, Any],
    endings: Sequence[str],
    chat: Mapping[str, Any],
) -> Any:
    prompts = prompt_texts(processor, anatomy, samples, chat)
    bos = getattr(getattr(processor, "tokenizer", processor), "bos_token", None)
    if bos and all(prompt.startswith(bos) for prompt in prompts):
        options = {"add_special_tokens": False, **options}
    if endings:
        prompts = [prompt + ending for prompt, ending in zip(prompts, endings, strict=True)]
    return _call(processor, prompts, media, options)


def _without_template(
    processor: Any,
    anatomy: Anatomy,
    samples: Sequence[Sample],
    media: dict[str, Any],
    options: dict[str, Any],
) -> Any:
    """Some processors put the image tokens in themselves; for the others they are written, where no marker says
    otherwise before the words."""
    prompts = [_single_prompt(sample, anatomy) for sample in samples]
    if not media:
        return _call(processor, prompts, media, options)
    token = _image_token(processor, anatomy)
    written = [_with_tokens(sample, token) for sample in samples]
    if token and any(sample.marks_places for sample in samples):
        for place, sample in enumerate(samples):
            if not sample.marks_places and set(media) == {"images"}:
                written[place] = _as_alone(processor, anatomy, sample, token, media["images"][place], options)
        return _call(processor, written, media, options)
    try:
        inputs = _call(processor, prompts, media, options)
    except InputError:
        if not token:
            raise
        return _call(processor, written, media, options)
    has_places = any((inputs["input_ids"] == place).any() for place in anatomy.image_token_ids)
    return inputs if has_places or not token else _call(processor, written, media, options)


def _with_tokens(sample: Sample, token: str) -> str:
    """The prompt with the text of each image in its place."""
    if sample.marks_places:
        return token.join(sample.pieces())
    return token * len(sample.images) + ("\n" if sample.images else "") + sample.prompt


def _as_alone(
    processor: Any, anatomy: Anatomy, sample: Sample, token: str, images: list[Any], options: dict[str, Any]
) -> str:
    """The prompt with image tokens so that it reads as it does alone: some processors write more around them then.

    Raises:
        InputError: where no way of writing it does.
    """
    mine = {"images": [images]}
    alone = _without_template(processor, anatomy, [sample], mine, options)["input_ids"].tolist()
    tokens = token * len(sample.images)
    for text in (_with_tokens(sample, token), tokens + sample.prompt):
        if _call(processor, [text], mine, options)["input_ids"].tolist() == alone:
            return text
    raise InputError(
        f"For this model prompts with places for images ({IMAGE_MARKER}) and prompts without cannot share a batch: "
        "encode them apart."
    )


def _require_video(processor: Any, anatomy: Anatomy) -> None:
    """InputError for a model without video, whose processor would drop one in silence."""
    part = getattr(processor, "video_processor", None)
    if isinstance(part, NoVideo):
        raise InputError("Video needs torchvision, which is not installed: pip install torchvision.")
    if part is None and not anatomy.video_token_ids:
        raise InputError(
            f"{type(anatomy.model).__name__} takes no video: give single frames as images, or a model that does."
        )


def _image_token(processor: Any, anatomy: Anatomy) -> str:
    """The text that stands for one image in a prompt, "" where neither processor nor configuration says."""
    tokenizer = getattr(processor, "tokenizer", processor)
    for holder in (processor, tokenizer):
        token = getattr(holder, "image_token", None)
        if token is not None:
            return str(getattr(token, "content", token))
    found = [tokenizer.convert_ids_to_tokens(place) for place in sorted(anatomy.image_token_ids)]
    return next((str(token) for token in found if token), "")


def _call(processor: Any, prompts: list[str], media: dict[str, Any], options: dict[str, Any]) -> Any:
    try:
        return processor(text=prompts, **media, **options)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, ImportError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"The processor ({type(processor).__name__}) refuses the sample: {reason}") from error


def _sampling_rate(processor: Any) -> int:
    extractor = getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)
    rate = getattr(extractor, "sampling_rate", None)
    if rate is None:
        raise InputError(f"The processor ({type(processor).__name__}) takes no sound: give images or text.")
    return int(rate)
