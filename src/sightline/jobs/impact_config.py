"""The file of `sightline impact --config`: prompts, images and settings, a wrong word of it refused in a sentence."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sightline.data.picture_names import picture_digest, picture_name
from sightline.data.pictures import is_address
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.files.digest import digest_of
from sightline.files.yaml import read_yaml
from sightline.knockout.study import Study
from sightline.text import shortened

TOP = ("prompts", "images", "settings")
ENTRY = ("id", "prompt", "image", "images", "settings")

HINTS = typing.get_type_hints(Study)
SETTINGS = tuple(each.name for each in fields(Study) if not each.metadata.get("hidden"))
"""Fields of `Study` that a file may set; the seed is the command's."""

INTEGERS = tuple(name for name in SETTINGS if HINTS[name] in (int, int | None))
WORDS = tuple(name for name in SETTINGS if typing.get_origin(HINTS[name]) is typing.Literal)


@dataclass(frozen=True)
class Request:
    """One prompt and the study of it. digests: SHA-256 of its images' files, for the run folder."""

    sample: Sample
    study: Study
    digests: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The sample's."""
        return self.sample.id

    def settings(self) -> dict[str, Any]:
        """All that decides the result, as the run folder records it."""
        names = [picture_name(image) for image in self.sample.images if isinstance(image, str | Path)]
        about = {"id": self.id, "prompt": self.sample.prompt, "images": names, "images_sha256": list(self.digests)}
        if self.study.other is not None:
            about["other_sha256"] = digest_of(Path(self.study.other), "image")
        return about | {"settings": self.study.settings()}


def read_config(path: Path, given: Mapping[str, Any], seed: int) -> list[Request]:
    """The prompts of a file, in order.

    The file: `prompts`, a list of texts or of {prompt, id, image or images, settings}; `images`, for the prompts that
    name none; `settings`, for all. A prompt's own settings overrule those, and options given on the command line both.
    Images are found relative to the file.

    Args:
        given: settings from the command line.

    Raises:
        InputError: one sentence, for a file that is missing, empty, no YAML or of another form; an unknown key, with
            the nearest known one; a value of the wrong type; an id twice; an image that is not there.
    """
    content = read_yaml(path, "`prompts:` and a list")
    _known(content, TOP, f"{path}")
    prompts = content.get("prompts")
    if not isinstance(prompts, list) or not prompts:
        raise InputError(f"{path} has no prompts: give `prompts:`, a list of texts or of {{prompt, image}}.")
    general = _settings(content.get("settings"), f"the settings of {path}")
    shared = _images(content.get("images"), path, f"{path}")
    requests = [
        _request(entry, number, path, shared, general, given, seed) for number, entry in enumerate(prompts, start=1)
    ]
    ids = [request.id for request in requests]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two prompts with the id {twice!r}: give each its own.")
    return requests


def _request(
    entry: Any,
    number: int,
    path: Path,
    shared: Sequence[str | Path],
    general: Mapping[str, Any],
    given: Mapping[str, Any],
    seed: int,
) -> Request:
    where = f"prompt {number} of {path}"
    if isinstance(entry, str):
        entry = {"prompt": entry}
    if not isinstance(entry, dict):
        raise InputError(f"The {where} is neither a text nor {{prompt, image, ...}}.")
    _known(entry, ENTRY, f"the {where}")
    if "image" in entry and "images" in entry:
        raise InputError(f"The {where} has both `image` and `images`: give one of them.")
    images = _images(entry.get("images", entry.get("image")), path, f"the {where}")
    if "images" not in entry and "image" not in entry:
        images = list(shared)
    text, name = entry.get("prompt"), entry.get("id", str(number))
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"The {where} has no text under `prompt`: give the words to ask.")
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise InputError(f"The id of the {where} is no name: give a word or a number.")
    sample = Sample(prompt=text, images=tuple(images), id=str(name))
    settings = {**general, **_settings(entry.get("settings"), f"the settings of the {where}"), **given}
    if settings.get("other") is not None and "other" not in given:
        settings["other"] = str(_images(str(settings["other"]), path, f"the {where}")[0])
    try:
        study = Study(**settings, seed=seed)
    except InputError as error:
        raise InputError(f"In the {where}: {error}") from error
    return Request(sample, study, tuple(map(picture_digest, images)))


def _images(value: Any, path: Path, where: str) -> list[str | Path]:
    if value is None:
        return []
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) and entry and "\0" not in entry for entry in listed):
        raise InputError(f"The images of {where} are no file names: give one, or a list of them.")
    fetched = next((entry for entry in listed if is_address(entry) and not entry.lower().startswith("data:")), None)
    if fetched is not None:
        raise InputError(f"The image {shortened(fetched)} of {where} is an address, and nothing is fetched: save it.")
    found = [entry if is_address(entry) else path.parent / Path(entry).expanduser() for entry in listed]
    missing = next((image for image in found if isinstance(image, Path) and not image.is_file()), None)
    if missing is not None:
        raise InputError(f"The image {missing} of {where} does not exist; names are relative to the file itself.")
    return found


def _settings(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"In {where} there is no list of names and values: write `window: 9` and the like.")
    _known(value, SETTINGS, where)
    return {name: _checked(name, entry, where) for name, entry in value.items()}


def _checked(name: str, value: Any, where: str) -> Any:
    """A setting's value as `Study` takes it."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if name in INTEGERS:
        return _kept(value, is_number, name, "a whole number", where)
    if name in WORDS:
        return _kept(value, isinstance(value, str), name, "a word", where)
    if name == "per_head":
        return _kept(value, isinstance(value, bool), name, "true or false", where)
    if name == "row":
        return _kept(value, is_number or value in ("last", "all"), name, "a position, last or all", where)
    if name == "target":
        return _kept(value, is_number or _is_word(value), name, "a token's id, a word, or predicted", where)
    if name in ("other", "other_prompt"):
        return _kept(value, _is_word(value), name, "words", where)
    wanted = "a list of layers" if name == "layers" else "a list of positions, or of lists of them"
    entries = value if isinstance(value, list) else [value]
    groups = [entry if isinstance(entry, list) else [entry] for entry in entries]
    are_numbers = all(isinstance(item, int) and not isinstance(item, bool) for group in groups for item in group)
    is_flat = name == "positions" or not any(isinstance(entry, list) for entry in entries)
    _kept(value, are_numbers and is_flat, name, wanted, where)
    return tuple(tuple(entry) if isinstance(entry, list) else entry for entry in entries)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _kept(value: Any, is_right: bool, name: str, wanted: str, where: str) -> Any:
    if not is_right:
        raise InputError(f"The {name} in {where} is {value!r}; it takes {wanted}.")
    return value


def _known(content: Mapping[Any, Any], keys: Sequence[str], where: str) -> None:
    for key in content:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            hint = f"did you mean {near[0]!r}" if near else f"it takes {', '.join(keys)}"
            raise InputError(f"There is no key {key!r} in {where}: {hint}.")
