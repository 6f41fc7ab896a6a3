"""Where a model is read from: a bundled name, a folder, adapters, the hub. Nothing is loaded for it, torch neither."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from sightline import zoo
from sightline.errors import ModelError
from sightline.text import shortened


@dataclass(frozen=True)
class CheckpointSource:
    """Where a model is read from.

    name      as the user gave it
    path      of the model, or its hub name
    revision  of the hub, where one is wanted
    adapter   the folder of PEFT adapters to put into the model
    """

    name: str
    path: str
    revision: str | None
    adapter: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder on this machine."""
        return Path(self.path).is_dir()


ADAPTER_FILE = "adapter_config.json"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters and no model of its own."""
    return (folder / ADAPTER_FILE).is_file() and not any(folder.glob("model*.safetensors"))


def base_of(folder: Path) -> tuple[str, str | None]:
    """The name of the model that a folder's adapters belong to, and its revision where one is recorded.

    A relative folder is looked for beside the adapters where it is not found from here.

    Raises:
        ModelError: when the settings are damaged or name no model.
    """
    try:
        settings = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"The {ADAPTER_FILE} of {folder} is not valid JSON.") from error
    name = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    if not isinstance(name, str) or not name:
        raise ModelError(f"The {ADAPTER_FILE} of {folder} names no base model (base_model_name_or_path).")
    beside = (folder / name).resolve()
    if not Path(name).exists() and (beside / "config.json").is_file():
        name = str(beside)
    revision = settings.get("revision")
    return name, revision if isinstance(revision, str) else None


_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
_REVISION = re.compile(r"^[\w./-]+$")


def find_source(name: str | Path, revision: str | None = None) -> CheckpointSource:
    """The source of a bundled name, a local folder or a hub name, in that order.

    A hub name may carry a branch, tag or commit, as owner/model@main; `revision` does the same.

    Raises:
        ModelError: for a folder that is missing or holds no config.json, and for what cannot be a hub name.
    """
    text = str(name)
    if len(text) > 4000 or "\0" in text:
        raise ModelError(f"{shortened(text)!r} names no model: it is {len(text)} letters long, or holds a NUL byte.")
    if text in zoo.BUNDLED:
        return _checked_folder(text, zoo.bundled_path(text), None)
    folder = Path(text).expanduser()
    name_alone, at, written = text.partition("@")
    if _exists(folder) or text.startswith((".", "/", "~")) or name_alone.count("/") > 1 or isinstance(name, Path):
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
    return CheckpointSource(text, name_alone, written or revision)


def _exists(folder: Path) -> bool:
    """Whether a folder is there; ModelError where that may not be seen."""
    try:
        found = folder.exists()
        if found and folder.is_dir():
            next(folder.iterdir(), None)
        return found
    except PermissionError as error:
        raise ModelError(f"The model folder {shortened(str(folder))} may not be read (permission denied).") from error
    except OSError:  # too long for a name
        return False


def _checked_folder(name: str, folder: Path, revision: str | None) -> CheckpointSource:
    if not _exists(folder):
        raise ModelError(f"The model folder {shortened(str(folder))} does not exist.")
    if not folder.is_dir():
        raise ModelError(f"The model {folder} is a file: give the folder that holds its config.json.")
    if is_adapter(folder):
        base = find_source(*base_of(folder))
        if base.adapter is not None:
            raise ModelError(f"The base of the adapters in {folder} is itself a folder of adapters: merge those first.")
        return CheckpointSource(name, base.path, base.revision, str(folder))
    if not (folder / "config.json").is_file():
        raise ModelError(f"The folder {folder} holds no config.json, so it is no Transformers model.")
    return CheckpointSource(name, str(folder), revision)
