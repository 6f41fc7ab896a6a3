"""What a method's field takes that was found in a model: a file, what found it, or names; of other weights refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sightline.errors import InputError
from sightline.knockout.head_maps import head_list, is_of_heads
from sightline.knockout.result import ImpactMap
from sightline.methods.directions import Direction, held_direction, read_direction
from sightline.models.anatomy import Anatomy
from sightline.models.weights_digest import weights_digest
from sightline.probes.sinks.result import Sinks, read_sinks


class Origin(NamedTuple):
    """Where names were found. model, weights: "" where that is not known; where: the file, or "" for an object."""

    model: str = ""
    weights: str = ""
    where: str = ""


UNKNOWN = Origin()


class FoundNames(tuple[str, ...]):
    """Names such as `layer.head`, and in which model they were found."""

    origin: Origin = UNKNOWN

    @classmethod
    def of(cls, names: Any, origin: Origin = UNKNOWN) -> FoundNames:
        """Names that were found there."""
        found = cls(map(str, names))
        found.origin = origin
        return found


@dataclass(frozen=True)
class NameList:
    """A kind of list. field: of the method and of the file; maker: what writes one; others: what its file never has."""

    method: str
    field: str
    maker: str
    others: Mapping[str, str]

    def read(self, given: Any) -> FoundNames | None:
        """The names of a file, of what found them, or as they are, which may be one text with plus signs.

        Raises:
            InputError: for a file that is not there, and for what holds no such list, or another kind of list.
        """
        if given is None or isinstance(given, FoundNames):
            return given
        entries = list(given) if isinstance(given, list | tuple) else [given]
        if len(entries) == 1 and isinstance(entries[0], str) and not _is_file(entries[0]):
            entries = entries[0].split("+")
        if len(entries) != 1 or (isinstance(entries[0], str) and not _is_file(entries[0])):
            return FoundNames.of(entries)
        (source,) = entries
        if isinstance(source, str | Path):
            return self._listed(self._document(Path(source)), str(source))
        if isinstance(source, Mapping):
            return self._listed(source, "")
        if isinstance(source, ImpactMap):
            about = {"model": source.model, **source.baseline}
            return self._listed(head_list(source) if is_of_heads(source) else about, "")
        if hasattr(source, "to_dict"):
            return self._listed(source.to_dict() | getattr(source, "named", {}), "")
        raise InputError(
            f"{type(source).__name__} is no list of {self.field} for {self.method}: give {self.maker}, or names."
        )

    def require_model(self, names: Any, model: Any, anatomy: Anatomy) -> None:
        """InputError for names that were found in another model."""
        origin = names.origin if isinstance(names, FoundNames) else UNKNOWN
        of = f"The {self.field} of {self.method}{f' in {origin.where}' if origin.where else ''} were found in"
        again = f"find this model's, by {self.maker}."
        mine = str(getattr(model, "name", ""))
        if origin.weights and origin.weights != weights_digest(anatomy):
            other = origin.model if origin.model != mine else "other weights, or in another dtype"
            raise InputError(f"{of} {other or 'other weights'}, and not in this model: {again}")
        if not origin.weights and origin.model and mine and origin.model != mine:
            raise InputError(f"{of} {origin.model}, and the model is {mine}: {again}")

    def _document(self, path: Path) -> Any:
        file = path / f"{self.method if self.field == 'neurons' else self.field}.json" if path.is_dir() else path
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"There is no file {file}: give {self.maker}.") from None
        except (OSError, ValueError):
            raise InputError(f"{file} holds no list of {self.field}: give {self.maker}.") from None

    def _listed(self, document: Any, where: str) -> FoundNames:
        shown = where or "What is given"
        names = None
        if isinstance(document, Mapping):
            whole = document.get(self.field) or document.get(self.method)
            if isinstance(whole, Mapping):  # a whole map's document, which has the list's in it
                document = whole
            names = document.get(self.field)
        other = next(
            (words for key, words in self.others.items() if isinstance(document, Mapping) and key in document), ""
        )
        if other:
            raise InputError(f"{shown} lists {other}, which are none for {self.method}: give {self.maker}.")
        if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
            raise InputError(f"{shown} holds no list of {self.field}: give {self.maker}.")
        model, weights = (str(document.get(key) or "") for key in ("model", "weights"))
        return FoundNames.of(names, Origin(model, weights, where))


HEADS = NameList(
    "adhh",
    "heads",
    "heads.json of `sightline impact --unit head`",
    dict.fromkeys(("votes", "threshold", "box"), "heads that look at one place (localization heads)"),
)
NEURONS = NameList(
    "registers",
    "neurons",
    "a registers.json of `sightline impact --mode registers`, or of `find_register_neurons`",
    {},
)


def _is_file(text: str) -> bool:
    """Whether a text stands for a file, and not for names."""
    return text.endswith(".json") or "/" in text or "\\" in text


def direction_source(method: str, field: str, given: Any) -> str | Direction | None:
    """A path as text, or the direction itself; InputError for anything else."""
    if given is None or isinstance(given, Direction):
        return given
    if isinstance(given, str | Path):
        return held_direction(str(given)) or str(given)
    raise InputError(
        f"{field} is {type(given).__name__} in {method}: give what `find_direction` found, or a file of it."
    )


def direction_for(
    method: str, field: str, source: str | Direction, anatomy: Anatomy, part: str | None = None
) -> Direction:
    """The direction of a field, found in this model. part: it must be of.

    Raises:
        InputError: for one of another part or of other weights, and for one that is zero everywhere.
    """
    found, where = (source, "") if isinstance(source, Direction) else (read_direction(source), f" in {source}")
    if part is not None and found.part != part:
        own, other = ("the decoder", "the vision tower") if part == "text" else ("the vision tower", "the decoder")
        raise InputError(
            f"The direction{where} is of {other}, and the field {field} of {method} takes one of {own}: give one of "
            f"`find_direction(..., part={part!r})`."
        )
    if found.weights != weights_digest(anatomy):
        raise InputError(
            f"The direction of {method}{where} was found in other weights than this model's: find it anew."
        )
    if not bool(found.values.any()):
        raise InputError(f"The direction of {method}{where} is zero everywhere: find it in pairs that differ.")
    return found


def sinks_in(given: Any) -> Any:
    """The sinks of a file or run folder; anything else as it is."""
    found: Sinks | Any = read_sinks(given) if isinstance(given, str | Path) else given
    return found
