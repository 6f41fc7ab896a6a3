"""What can go wrong while a model is loaded, each in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import InputError, ModelError
from sightline.files.json import read_object
from sightline.memory import is_out_of_memory
from sightline.models.source import CheckpointSource
from sightline.text import first_sentence


class VideoLibraryError(ModelError):
    """The processor wants its video part, whose library is not installed."""


@contextmanager
def explained_errors(source: CheckpointSource, what: str = "model") -> Iterator[None]:
    """Turns what Transformers and the hub raise while loading into a ModelError of one sentence."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as error:  # any library may fail in its own way here; each way is one sentence for the user
        raise _explained(source, what, error) from error


def _explained(source: CheckpointSource, what: str, error: Exception) -> ModelError:
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
        return ModelError(f"The weights of {name} are damaged or cut short ({first_sentence(error)}): copy them again.")
    if "custom code" in text or "trust_remote_code" in text:
        return ModelError(f"{name} brings its own {what} code, which Sightline does not run: give a converted copy.")
    if "does not recognize this architecture" in text:
        kind = re.search(r"model type `([^`]+)`", text)
        return ModelError(
            f"{name} is of kind {kind[1] if kind else 'unknown'}, which this version of Transformers does not know: "
            "update Transformers."
        )
    if what == "processor" and "torchvision" in text.lower():
        return VideoLibraryError(f"The processor of {name} needs torchvision: pip install torchvision.")
    if isinstance(error, ImportError):
        return ModelError(f"The {what} of {name} needs a library that is not installed ({first_sentence(error)}).")
    if "no file named" in text and "safetensors" in text:
        return ModelError(f"{name} has no weights (model.safetensors): copy them into the folder.")
    if "UnicodeDecodeError" in kinds:
        return ModelError(f"A file beside the {what} of {name} is not UTF-8 text (UTF-16?): save it as UTF-8.")
    if damaged := _damaged_file(source):
        return ModelError(f"The {damaged} of {name} is not valid JSON: copy it again.")
    if "model_type" in text and "Unrecognized" in text:
        return ModelError(f"The config.json of {name} names no model_type that Transformers knows.")
    if what != "model" and isinstance(error, OSError | ValueError):
        return ModelError(f"{name} has no usable {what} beside its model ({first_sentence(error)}).")
    if is_out_of_memory(error):
        return ModelError(f"{name} does not fit into memory: give --dtype bfloat16, --quantize or --device-map auto.")
    return ModelError(f"The {what} of {name} cannot be loaded ({first_sentence(error)}): copy its files again.")


def _damaged_file(source: CheckpointSource) -> str | None:
    """The name of the first JSON file of a model's folder that holds no JSON object."""
    files = sorted(Path(source.path).glob("*.json")) if source.is_folder else []
    return next((file.name for file in files if read_object(file) is None), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
