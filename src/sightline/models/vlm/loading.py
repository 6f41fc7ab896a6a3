"""Finding a model by name, and loading it with its processor; what can go wrong, each in one sentence."""

from __future__ import annotations

import copy
import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import Any

from sightline.errors import InputError, ModelError
from sightline.models.source import CheckpointSource
from sightline.models.transformers_api.loading import generating_classes
from sightline.models.vlm.load_errors import VideoLibraryError, explained_errors
from sightline.models.vlm.processors import lacks_video_library, load_without_video
from sightline.models.vlm.settings import ModelOptions
from sightline.models.vlm.weights import require_complete, require_weights

_QUANTIZED_BITS = ("4bit", "8bit")


def load_weights(
    source: CheckpointSource, dtype: Any, device: Any, quantize: str | None, settings: ModelOptions
) -> Any:
    """The model in evaluation mode on its device.

    Raises:
        ModelError: for whatever keeps it from being loaded.
    """
    wanted_device, device = device, _device(device)
    options: dict[str, Any] = {"dtype": _dtype(dtype), "revision": source.revision, "trust_remote_code": False}
    config = _load_config(source)
    auto = _auto_class(source, config)
    if quantize is not None:
        options["quantization_config"] = _quantization(quantize, device)
    if settings.device_map is not None:
        if str(wanted_device) != "auto":
            raise InputError(f"device_map chooses the devices, and the device is {wanted_device}: give one of them.")
        options["device_map"] = settings.device_map
    elif device.type != "cpu":
        options["device_map"] = {"": device}
    if settings.attention is not None:
        options["attn_implementation"] = settings.attention
    require_weights(source)
    with explained_errors(source):
        model, report = auto.from_pretrained(
            source.path,
            config=config,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, and refused by name
            **options,
        )
    if not settings.allow_missing:
        require_complete(source, model, report)
    return model.eval()


def _device(device: Any) -> Any:
    import torch

    if str(device) == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{device!r} is no device: give auto, cpu, cuda, cuda:1 or mps.") from error
    if found.type == "cuda" and (not torch.cuda.is_available() or (found.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"The device {device} is not there: this machine has {torch.cuda.device_count()} CUDA GPUs.")
    return found


def _dtype(dtype: Any) -> Any:
    import torch

    if dtype == "auto" or isinstance(dtype, torch.dtype):
        return dtype
    found = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}.get(str(dtype))
    if found is None:
        raise InputError(f"{dtype!r} is no dtype: give auto, float32, float16 or bfloat16.")
    return found


def _quantization(quantize: str, device: Any) -> Any:
    if quantize not in _QUANTIZED_BITS:
        raise InputError(f"quantize={quantize!r} is not known: give 4bit or 8bit.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"quantize={quantize!r} needs bitsandbytes: pip install 'sightline-vlm[quant]'.")
    if device.type != "cuda":
        raise ModelError(f"quantize={quantize!r} needs a CUDA GPU and the device is {device.type}: leave quantize out.")
    import torch
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )


def _load_config(source: CheckpointSource) -> Any:
    from transformers import AutoConfig

    with explained_errors(source):
        return AutoConfig.from_pretrained(source.path, revision=source.revision, trust_remote_code=False)


def _auto_class(source: CheckpointSource, config: Any) -> Any:
    """The auto class whose mapping knows this configuration, vision-language models first.

    A configuration may belong to models of several kinds (BERT has a causal variant); the architecture it was saved
    from decides.
    """
    import transformers

    candidates = ("AutoModelForImageTextToText", "AutoModelForMultimodalLM", "AutoModelForCausalLM")
    autos = [getattr(transformers, name) for name in candidates if hasattr(transformers, name)]
    classes = {auto: generating_classes(auto, config) for auto in autos}
    known = [auto for auto in autos if classes[auto]]
    saved = [name for name in getattr(config, "architectures", None) or [] if isinstance(name, str)]
    generating = {name for auto in known for name in classes[auto]}
    foreign = [name for name in saved if name not in generating and hasattr(transformers, name)]
    if not known or (saved and len(foreign) == len(saved)):
        kind = saved[0] if saved else f"a {config.model_type} model"
        raise ModelError(
            f"{source.name} is {kind}, which does not generate text: give a vision-language model or a causal "
            "language model."
        )
    exact = [auto for auto in known if set(saved) & set(classes[auto])]
    return (exact or known)[0]


def load_processor(source: CheckpointSource, model: Any, is_multimodal: bool) -> Any:
    """The model's processor: an AutoProcessor for a multimodal model, a tokenizer for a text-only one.

    Raises:
        ModelError: when there is none, or it needs a library that is not installed.
    """
    from transformers import AutoProcessor, AutoTokenizer

    own = source.adapter and Path(source.adapter)
    if own and any((own / file).is_file() for file in (*_PROCESSOR_FILES, "tokenizer.json")):
        source = CheckpointSource(source.name, str(own), None)
    options = {"revision": source.revision, "trust_remote_code": False}
    if not is_multimodal:
        with explained_errors(source, "tokenizer"):
            return _ready(AutoTokenizer.from_pretrained(source.path, **options))
    if source.is_folder and not any((Path(source.path) / file).is_file() for file in _PROCESSOR_FILES):
        raise _no_processor(source)
    processor = None
    if not lacks_video_library(source.path, model.config, options):
        with suppress(VideoLibraryError), explained_errors(source, "processor"):
            processor = AutoProcessor.from_pretrained(source.path, **options)
    if processor is None:
        with explained_errors(source, "processor"):
            processor = load_without_video(source.path, model.config, options)
    if not hasattr(processor, "tokenizer"):  # AutoProcessor answers with a bare tokenizer where there is nothing else
        raise _no_processor(source)
    return _ready(processor)


_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def _no_processor(source: CheckpointSource) -> ModelError:
    return ModelError(
        f"{source.name} has no processor beside its model ({' or '.join(_PROCESSOR_FILES)}): save the model's "
        "processor into the same folder."
    )


def prepared(processor: Any) -> Any:
    """A processor set for generation; the one that is given stays as it is."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if getattr(tokenizer, "padding_side", "left") == "left" and tokenizer.pad_token is not None:
        return processor
    if tokenizer is processor:
        return _ready(copy.deepcopy(processor))
    mine = copy.copy(processor)
    mine.tokenizer = copy.deepcopy(tokenizer)
    return _ready(mine)


def _ready(processor: Any) -> Any:
    """Set for generation: padding on the left, with the end token where there is no padding token."""
    tokenizer = getattr(processor, "tokenizer", processor)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token
    return processor
