"""A model by its name, its folder or from memory, with its processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.models.anatomy import find_anatomy
from sightline.models.layout.by_hand import GivenLayout, read_layout
from sightline.models.source import find_source
from sightline.models.transformers_api.loading import commit_of
from sightline.models.vlm.adapters import refuse_prompt_learning, with_adapter
from sightline.models.vlm.chat import check_chat
from sightline.models.vlm.generation import check_generation
from sightline.models.vlm.loading import load_processor, load_weights, prepared
from sightline.models.vlm.model import VLM
from sightline.models.vlm.reading import require_right_reading
from sightline.models.vlm.settings import ModelOptions, model_options, processor_options


def load(
    name: str | Path,
    dtype: Any = "auto",
    device: Any = "auto",
    revision: str | None = None,
    quantize: str | None = None,
    layout: str | Path | GivenLayout | None = None,
    check: bool = True,
    **options: Any,
) -> VLM:
    """Load a vision-language model, or a causal language model, with its processor.

    Args:
        name: a bundled name (`sightline list models`), a local folder, or a hub name such as "owner/model"
            or "owner/model@revision"; a folder of adapters (adapter_config.json) loads its base and itself.
        dtype: "auto" (as the weights are stored), "float32", "bfloat16", "float16", or a torch dtype.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
        revision: a branch, tag or commit of a hub model.
        quantize: "4bit" or "8bit", by bitsandbytes on a CUDA GPU.
        layout: where text and image stand, for a model that does not say: a layout file, or one read by `read_layout`.
        check: look whether the model is read rightly, in a forward pass and two decoding steps on a small picture.
        options: fields of `ModelOptions`: allow_missing, attention, device_map, min_pixels, max_pixels, processor,
            generation, chat.

    Raises:
        ModelError: in one sentence, when the model cannot be found, reached, loaded or read, or is read wrongly.
        InputError: for an unknown dtype, device or quantisation.
    """
    given = read_layout(layout) if isinstance(layout, str | Path) else layout
    source = find_source(name, revision)
    settings = model_options(options)
    model = load_weights(source, dtype, device, quantize, settings)
    if source.adapter is not None:
        model = with_adapter(model, source)
    anatomy = find_anatomy(model)
    model = anatomy.model  # of an any-to-any model, the part that writes text
    processor = load_processor(source, model, anatomy.is_multimodal)
    commit = commit_of(model.config) or source.revision
    vlm = VLM(model, processor, source.name, anatomy, commit, given, *_checked(model, processor, settings))
    if check:
        require_right_reading(vlm)
    return vlm


def _checked(
    model: Any, processor: Any, settings: ModelOptions
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What is set anew for the processor, for generation and for the chat template, each field known there."""
    return (
        processor_options(processor, settings),
        check_generation(model, settings.generation),
        check_chat(processor, settings.chat),
    )


def wrap(
    model: Any,
    processor: Any = None,
    *,
    name: str | None = None,
    layout: str | Path | GivenLayout | None = None,
    check: bool = True,
    **options: Any,
) -> VLM:
    """A Transformers model in memory as a `VLM`, with or without PEFT adapters; it is put into evaluation mode.

    Args:
        model: from `from_pretrained`, or built; the wrappers of PEFT, `torch.compile` and the like are taken off.
        processor: the model's processor, or its tokenizer where it reads text alone; a copy is set to pad on the left.
            Without one, encoded inputs are given in place of samples.
        name: for tables and records; by default where the model came from, else its class.
        layout: where text and image stand, for a model that does not say.
        check: look whether the model is read rightly, as `load` does; without a processor it can't be looked at.
        options: min_pixels, max_pixels, processor, generation and chat, as `load` takes them.

    Raises:
        ModelError: for a model that cannot be read, and for adapters that act outside of it (prompt learning).
    """
    refuse_prompt_learning(model)
    anatomy = find_anatomy(model)
    inner: Any = anatomy.model.eval()
    given = read_layout(layout) if isinstance(layout, str | Path) else layout
    known = name or getattr(inner.config, "_name_or_path", "") or type(inner).__name__
    ready = None if processor is None else prepared(processor)
    settings = model_options(options)
    if settings.attention is not None or settings.device_map is not None or settings.allow_missing:
        raise InputError("attention, device_map and allow_missing are settings of loading: the model is in memory.")
    commit = commit_of(inner.config)
    vlm = VLM(inner, ready, str(known), anatomy, commit, given, *_checked(inner, ready, settings))
    if check:
        require_right_reading(vlm)
    return vlm
