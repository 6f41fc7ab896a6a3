"""What was found about a model's sinks, and the file it is kept in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError, SightlineWarning
from sightline.files.json import json_text, write_atomically
from sightline.models.vlm.fingerprint import folder_fingerprint, model_folder
from sightline.probes.sinks.check import FACTOR
from sightline.probes.sinks.sections import sink_sections
from sightline.results.paired import differences
from sightline.results.result import Result
from sightline.results.style import axes_of, look
from sightline.results.table import Section

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sightline.results.style import Style, Width

SINKS_FILE = "sinks.json"


@dataclass(frozen=True)
class LayerSinks:
    """One layer, means over samples.

    image_sinks, text_sinks: tokens with phi > tau. attended: sinks by attention. precision, recall: of the one against
    the other, None where there is nothing to take a share of.
    """

    layer: int
    image_sinks: float
    text_sinks: float
    attended: float = 0.0
    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True)
class Sinks(Result):
    """A model's sink dimensions and what is known of its sinks.

    model, revision: on which they were found
    content: the fingerprint of its folder, where it was a bundled or local one
    dims: empty for a model that has none
    tau: a token is a sink where phi exceeds it
    gap: how far the last of `dims` stands above the next candidate in score, 0 to 1
    candidates: (dim, score), the best first; the score is the share of samples and layers in which the dimension is
        massive on a few tokens
    precision, recall: of phi > tau against attention itself, where a sink draws `factor` times what uniform attention
        would give it
    on_border, on_background: the share of image sinks there; None where it is not known
    border, background: the share of all image tokens there, to hold it against
    batch_size: samples in one pass, at most
    """

    model: str
    dims: tuple[int, ...]
    tau: float
    gap: float | None = None
    precision: float | None = None
    recall: float | None = None
    candidates: tuple[tuple[int, float], ...] = ()
    layers: tuple[LayerSinks, ...] = ()
    revision: str | None = None
    hidden_size: int | None = None
    factor: float = FACTOR
    samples: int = 0
    failed: int = 0
    on_border: float | None = None
    border: float | None = None
    on_background: float | None = None
    background: float | None = None
    content: str | None = None
    batch_size: int | None = None
    path: str | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The `sinks` JSON document."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "path"}
        return document | {
            "dims": list(self.dims),
            "candidates": [{"dim": dim, "score": score} for dim, score in self.candidates],
            "layers": [asdict(layer) for layer in self.layers],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Sinks:
        """The inverse of `to_dict`; KeyError, TypeError or ValueError for what is no such document."""
        dims, tau = tuple(document["dims"]), float(document["tau"])
        if not all(type(dim) is int and dim >= 0 for dim in dims) or not 0 < tau < inf:
            raise ValueError("dims are dimensions of the model, tau is above 0")
        names = {entry.name for entry in fields(cls)}
        known = {name: value for name, value in document.items() if name in names}
        layer_names = {entry.name for entry in fields(LayerSinks)}
        layers = [{name: value for name, value in layer.items() if name in layer_names} for layer in document["layers"]]
        return cls(
            **known
            | {
                "dims": dims,
                "tau": tau,
                "candidates": tuple((int(entry["dim"]), float(entry["score"])) for entry in document["candidates"]),
                "layers": tuple(LayerSinks(**layer) for layer in layers),
            }
        )

    def compare(self, other: Sinks) -> pd.DataFrame:
        """Two models' sinks, or those of two sets of samples: counts, precision and recall, whole and by layer.

        "dims" counts the dimensions, "shared dims" those of both. Of one search each there are no intervals.
        """
        shared = float(len(set(self.dims) & set(other.dims)))
        sides = [
            [
                ({"layer": None, "metric": "dims"}, float(len(each.dims))),
                ({"layer": None, "metric": "shared dims"}, shared),
                ({"layer": None, "metric": "precision"}, each.precision),
                ({"layer": None, "metric": "recall"}, each.recall),
                *(({"layer": row["layer"], "metric": row["metric"]}, row["value"]) for row in each.entries()),
            ]
            for each in (self, other)
        ]
        return differences((self.model, other.model), *sides)

    def sections(self) -> list[Section]:
        """The dimensions, the candidates, the layers, and how they hold against attention."""
        return sink_sections(self)

    def save(self, path: str | Path) -> Path:
        """Writes sinks.json; into a folder, or under the given name."""
        path = Path(path)
        if path.suffix != ".json":
            path.mkdir(parents=True, exist_ok=True)
            path = path / SINKS_FILE
        write_atomically(path, json_text(self.to_dict(), indent=2))
        return path

    def require_model(self, name: str, revision: str | None, hidden_size: int) -> None:
        """InputError, in one sentence, when these are another model's sinks.

        Of a bundled or local model the folder's content decides, whatever it is called; of a hub model its name and
        revision. A file without the content is taken by the name, with a note.
        """
        where = f"The sinks in {self.path}" if self.path else "The sinks given"
        again = f"find this model's with `sightline sinks {name}`."
        content = content_of(name)
        if content is not None and content == self.content:
            return
        if not _same_name(self.model, name):
            raise InputError(f"{where} are those of {self.model}, and the model is {name}: {again}")
        if content is not None and self.content is not None:
            raise InputError(f"{where} were found on other weights than those that {name} holds now: {again}")
        if self.revision != revision:
            raise InputError(
                f"{where} were found on revision {self.revision or 'unknown'} of {name}, and the one loaded is "
                f"{revision or 'unknown'}: {again}"
            )
        if self.hidden_size not in (None, hidden_size):
            raise InputError(
                f"{where} are of a model of {self.hidden_size} hidden dimensions, and {name} has {hidden_size}: {again}"
            )
        if content is not None:
            warnings.warn(
                f"{where} do not tell on which weights of {name} they were found, so it is taken that these are the "
                "same; those that `sightline sinks` writes now do.",
                SightlineWarning,
                stacklevel=2,
            )

    def entries(self) -> list[dict[str, Any]]:
        """A row a layer and figure: image_sinks, text_sinks, attended, precision, recall."""
        return [
            {"model": self.model, "layer": layer.layer, "metric": name, "value": value}
            for layer in self.layers
            for name, value in asdict(layer).items()
            if name != "layer"
        ]

    def plot(self, ax: Any = None, *, style: Style = "paper", width: Width = "column") -> Axes:
        """Image and text sinks by layer, and the tokens that draw most attention; `sl.save_figure` writes it."""
        with look(style):
            axes = axes_of(ax, width)
            numbers = [layer.layer for layer in self.layers]
            for name, label in (("image_sinks", "image"), ("text_sinks", "text"), ("attended", "by attention")):
                axes.plot(numbers, [getattr(layer, name) for layer in self.layers], label=label)
            axes.set(xlabel="layer", ylabel="sinks", title=f"{self.model}: dimensions {list(self.dims) or 'none'}")
            axes.legend()
            return axes

    def __str__(self) -> str:
        if not self.dims:
            best = "".join(f"; the best candidate, {dim}, scores {score:.2f}" for dim, score in self.candidates[:1])
            return f"{self.model} has no sink dimensions{best}."
        listed = ", ".join(map(str, self.dims))
        return f"{self.model}: sink dimensions {listed}; tau {self.tau:.3g}, gap {self.gap:.2f}"


def content_of(name: str) -> str | None:
    """The fingerprint of a bundled or local model's folder; None for another model, or where it cannot be read."""
    try:
        folder = model_folder(name)
        return None if folder is None else folder_fingerprint(folder)
    except (OSError, ValueError):
        return None


def _same_name(one: str, other: str) -> bool:
    """Two names of one model: the same word, or two ways to one folder."""
    if one == other:
        return True
    first, second = Path(one), Path(other)
    return first.is_dir() and second.is_dir() and first.resolve() == second.resolve()


def read_sinks(path: str | Path) -> Sinks:
    """Sinks from the file `sightline sinks` writes, or from the folder it is in.

    Raises:
        InputError: when there is no such file, or it is another kind of document.
    """
    path = Path(path)
    file = path / SINKS_FILE if path.is_dir() else path
    remedy = "write one with `sightline sinks MODEL --out DIR`."
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The sinks file {file} cannot be read ({error.strerror}): {remedy}") from None
    except (ValueError, RecursionError):
        raise InputError(f"The sinks file {file} is not JSON: {remedy}") from None
    try:
        return replace(Sinks.from_dict(document), path=str(file))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"The file {file} is no sinks file, which has model, dims, tau, candidates and layers: {remedy}"
        ) from None
