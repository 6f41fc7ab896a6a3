"""Finding a model by name, and loading it with its processor; what can go wrong, each in one sentence."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sightline.errors import InputError, ModelError

_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
_REVISION = re.compile(r"^[\w./-]+$")
_QUANTIZED_BITS = ("4bit", "8bit")


@dataclass(frozen=True)
class Source:
    """Where a model is read from: the name the user gave, what Transformers is told, and the wanted revision."""

    name: str
    path: str
    revision: str | None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder on this machine."""
        return Path(self.path).is_dir()


def find_source(name: str | Path, revision: str | None = None) -> Source:
    """The source of a bundled name, a local folder or a hub name, in that order.

    A hub name may carry a branch, tag or commit, as owner/model@main; `revision` does the same.

    Raises:
        ModelError: for a folder that is missing or holds no config.json, and for what cannot be a hub name.
    """
    from sightline import zoo

    text = str(name)
    if text in zoo.BUNDLED:
        return _checked_folder(text, zoo.bundled_path(text), None)
    folder = Path(text).expanduser()
    name_alone, at, written = text.partition("@")
    if folder.exists() or text.startswith((".", "/", "~")) or name_alone.count("/") > 1 or isinstance(name, Path):
        return _checked_folder(text, folder, revision)
    if at and revision is not None and revision != written:
        raise ModelError(f"{text} names one revision and revision={revision!r} another: give one of them.")
    if not _HUB_NAME.match(name_alone) or (at and not _REVISION.match(written)):
        raise ModelError(
            f"{text!r} names no model: give a bundled one ({', '.join(zoo.BUNDLED)}), a folder or a hub name such as "
            "owner/model."
        )
    if "/" not in text and (meant := get_close_matches(text.lower(), zoo.BUNDLED, 1, 0.8)):
        raise ModelError(
            f"There is no bundled model {text}: did you mean {meant[0]}? A hub name has an owner, as owner/{text}."
        )
    return Source(text, name_alone, written or revision)


def _checked_folder(name: str, folder: Path, revision: str | None) -> Source:
    if not folder.exists():
        raise ModelError(f"The model folder {folder} does not exist.")
    if not folder.is_dir():
        raise ModelError(f"The model {folder} is a file: give the folder that holds its config.json.")
    if not (folder / "config.json").is_file():
        raise ModelError(f"The folder {folder} holds no config.json, so it is no Transformers model.")
    return Source(name, str(folder), revision)


def load_model(source: Source, dtype: Any, device: Any, quantize: str | None) -> Any:
    """The model in evaluation mode on its device.

    Raises:
        ModelError: for whatever keeps it from being loaded.
    """
    device = _device(device)
    options: dict[str, Any] = {"dtype": _dtype(dtype), "revision": source.revision, "trust_remote_code": False}
    config = _load_config(source)
    auto = _auto_class(source, config)
    if quantize is not None:
        options["quantization_config"] = _quantization(quantize, device)
    if device.type != "cpu":
        options["device_map"] = {"": device}
    with _said_plainly(source):
        return auto.from_pretrained(source.path, config=config, **options).eval()


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


def _load_config(source: Source) -> Any:
    from transformers import AutoConfig

    with _said_plainly(source):
        return AutoConfig.from_pretrained(source.path, revision=source.revision, trust_remote_code=False)


def _auto_class(source: Source, config: Any) -> Any:
    """The auto class whose mapping knows this configuration, vision-language models first.

    A configuration may belong to models of several kinds (BERT has a causal variant); the architecture it was saved
    from decides.
    """
    import transformers

    candidates = ("AutoModelForImageTextToText", "AutoModelForMultimodalLM", "AutoModelForCausalLM")
    autos = [getattr(transformers, name) for name in candidates if hasattr(transformers, name)]
    known = [auto for auto in autos if type(config) in auto._model_mapping]
    saved = list(getattr(config, "architectures", None) or [])
    generating = {name for auto in known for name in _class_names(auto._model_mapping[type(config)])}
    foreign = [name for name in saved if name not in generating and hasattr(transformers, name)]
    if not known or (saved and len(foreign) == len(saved)):
        kind = saved[0] if saved else f"a {config.model_type} model"
        raise ModelError(
            f"{source.name} is {kind}, which does not generate text: give a vision-language model or a causal "
            "language model."
        )
    exact = [auto for auto in known if set(saved) & set(_class_names(auto._model_mapping[type(config)]))]
    return (exact or known)[0]


def _class_names(found: Any) -> list[str]:
    return [kind.__name__ for kind in (found if isinstance(found, list | tuple) else (found,))]


def load_processor(source: Source, model: Any, is_multimodal: bool) -> Any:
    """The model's processor: an AutoProcessor for a multimodal model, a tokenizer for a text-only one.

    Raises:
        ModelError: when there is none, or it needs a library that is not installed.
    """
    from transformers import AutoProcessor, AutoTokenizer

    options = {"revision": source.revision, "trust_remote_code": False}
    if not is_multimodal:
        with _said_plainly(source, "tokenizer"):
            return _ready(AutoTokenizer.from_pretrained(source.path, **options))
    if source.is_folder and not any((Path(source.path) / file).is_file() for file in _PROCESSOR_FILES):
        raise _no_processor(source)
    try:
        with _said_plainly(source, "processor"):
            processor = AutoProcessor.from_pretrained(source.path, **options)
    except _VideoLibraryError:
        from sightline.models.vlm.processors import load_without_video

        with _said_plainly(source, "processor"):
            processor = load_without_video(source.path, model.config, options)
    if not hasattr(processor, "tokenizer"):  # AutoProcessor answers with a bare tokenizer where there is nothing else
        raise _no_processor(source)
    return _ready(processor)


_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def _no_processor(source: Source) -> ModelError:
    return ModelError(
        f"{source.name} has no processor beside its model ({' or '.join(_PROCESSOR_FILES)}): save the model's "
        "processor into the same folder."
    )


def _ready(processor: Any) -> Any:
    """Set for generation: padding on the left, with the end token where there is no padding token."""
    tokenizer = getattr(processor, "tokenizer", processor)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token
    return processor


class _VideoLibraryError(ModelError):
    """The processor wants its video part, whose library is not installed."""


@contextmanager
def _said_plainly(source: Source, what: str = "model") -> Iterator[None]:
    """Turns what Transformers and the hub raise while loading into a ModelError of one sentence."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as error:  # any library may fail in its own way here; each way is one sentence for the user
        raise _explained(source, what, error) from error


def _explained(source: Source, what: str, error: Exception) -> ModelError:
    name = source.name
    chain = list(_chain(error))
    kinds = {type(link).__name__ for link in chain}
    text = " ".join(" ".join(str(link) for link in chain).split())
    if "GatedRepoError" in kinds or "gated repo" in text:
        return ModelError(
            f"{name} is gated: ask for access at https://huggingface.co/{name} and log in with `hf auth login`."
        )
    if "RevisionNotFoundError" in kinds:
        return ModelError(f"{name} has no revision {source.revision!r}.")
    if "RepositoryNotFoundError" in kinds:
        return ModelError(f"{name} is not on the Hugging Face hub, or private: check the name, or give a folder.")
    if kinds & {"OfflineModeIsEnabled", "LocalEntryNotFoundError"} or "couldn't connect" in text.lower():
        return ModelError(
            f"{name} is not in the local cache and the Hugging Face hub cannot be reached: go online, or give a folder."
        )
    if "SafetensorError" in kinds:
        return ModelError(f"The weights of {name} are damaged or cut short ({_short(error)}): copy them again.")
    if "custom code" in text or "trust_remote_code" in text:
        return ModelError(f"{name} brings its own {what} code, which Sightline does not run: give a converted copy.")
    if "does not recognize this architecture" in text:
        kind = re.search(r"model type `([^`]+)`", text)
        return ModelError(
            f"{name} is of kind {kind[1] if kind else 'unknown'}, which this version of Transformers does not know: "
            "update Transformers."
        )
    if what == "processor" and "torchvision" in text.lower():
        return _VideoLibraryError(f"The processor of {name} needs torchvision: pip install torchvision.")
    if isinstance(error, ImportError):
        return ModelError(f"The {what} of {name} needs a library that is not installed ({_short(error)}).")
    if "no file named" in text and "safetensors" in text:
        return ModelError(f"{name} has no weights (model.safetensors): copy them into the folder.")
    if isinstance(next((link for link in chain if isinstance(link, json.JSONDecodeError)), None), ValueError):
        return ModelError(f"The config.json of {name} is not valid JSON.")
    if "model_type" in text and "Unrecognized" in text:
        return ModelError(f"The config.json of {name} names no model_type that Transformers knows.")
    if what != "model" and isinstance(error, OSError | ValueError):
        return ModelError(f"{name} has no usable {what} beside its model ({_short(error)}).")
    return ModelError(f"The {what} of {name} cannot be loaded ({type(error).__name__}: {_short(error)}).")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _short(error: Exception) -> str:
    """The first sentence of an error's text."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.split(r"(?<=[.!?])\s", text)[0].rstrip(".")[:200]
