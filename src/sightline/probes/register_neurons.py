"""Register neurons of a vision tower: those that write the norm of its outlier patches (arXiv 2506.08010).

    outlier: a patch j with |h_j| > threshold behind layer L;   by default threshold = 3 median_j |h_j|
    score of neuron n of layer l = mean over pictures of mean over their outliers j of |a_lj[n]|
    register neurons: the `count` of the highest score, up to the first layer behind which the outliers stand out

h_j: [hidden], what leaves a layer of the tower; a_l: [tokens, neurons], activations of its feed-forward part. The paper
and its public code take a threshold and a last layer for each tower by hand (30 and layer 5 for CLIP ViT-B/16, 150 and
layer 17 for DINOv2 ViT-L/14), and count a class token in; here both have a rule, and patches alone count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sightline.attention.alone import alone
from sightline.attention.hooks import Hooks
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.files.json import json_text, write_atomically
from sightline.methods.base import anatomy_and_layout
from sightline.methods.registers import Registers
from sightline.methods.tower_tokens import Pictures, TowerTokens, tower_neurons
from sightline.models.anatomy import Anatomy
from sightline.models.logits import plain_pass
from sightline.models.weights_digest import weights_digest

FACTOR = 3.0
"""By default an outlier's norm is above so many medians."""


class NoOutliers(InputError):
    """No patch is an outlier."""


@dataclass(frozen=True)
class RegisterNeurons:
    """The register neurons of a tower.

    Attributes:
        neurons: as `layer.neuron`, the highest score first.
        scores: of each, mean |activation| at outlier patches.
        layer: behind which outliers were looked for.
        last_layer: the last whose neurons were looked at.
        outliers: patches that were outliers.
        patches: of all pictures.
        ratio: mean norm of the outliers, in medians.
        model, weights: in which they were found; the method refuses them in another.
    """

    neurons: tuple[str, ...]
    scores: tuple[float, ...]
    layer: int
    last_layer: int
    outliers: int
    patches: int
    ratio: float
    model: str = ""
    weights: str = ""

    def method(self, count: int = 1) -> Registers:
        """The method that moves what they write to `count` registers."""
        return Registers(self, count)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON document."""
        return {
            "neurons": list(self.neurons),
            "scores": list(self.scores),
            "layer": self.layer,
            "last_layer": self.last_layer,
            "outliers": self.outliers,
            "patches": self.patches,
            "ratio": self.ratio,
            "model": self.model,
            "weights": self.weights,
        }

    def save(self, path: str | Path) -> None:
        """As a JSON file, which the field `neurons` of the method takes."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json_text(self.to_dict()))


def find_register_neurons(
    model: Any,
    pictures: Iterable[Any],
    *,
    count: int = 10,
    threshold: float | None = None,
    layer: int = -2,
    last_layer: int | None = None,
) -> RegisterNeurons:
    """Which neurons of the vision tower write the norm of its outlier patches; two passes a picture.

    Args:
        model: a `VLM`, or a bare Transformers model.
        pictures: each a `Sample`, or inputs of the forward; the paper takes 500.
        count: how many neurons.
        threshold: norm from which a patch is an outlier; by default three medians of the patches beside it.
        layer: of the tower, behind which outliers are looked for; -1 is its last.
        last_layer: the last whose neurons are looked at; by default the first behind which the outliers stand out.

    Raises:
        InputError: without a picture, for a layer the tower has not, and where no patch is an outlier (`NoOutliers`).
        ModelError: for a model whose vision tower can't be looked into.
    """
    anatomy, _ = anatomy_and_layout(model, None)
    depth = len(tower_neurons("The search for register neurons", anatomy))
    place = layer + depth if layer < 0 else layer
    for number in (place, last_layer or 0):
        if not 0 <= number < depth:
            raise InputError(f"Layer {number} is out of range: the vision tower has layers 0 to {depth - 1}.")
    if count < 1:
        raise InputError(f"count is {count}: give at least 1 neuron.")
    found = _Sums(depth)
    for picture in pictures:
        found.add(anatomy, _inputs(model, picture), threshold, place)
    if not found.patches:
        raise InputError("No picture went through the vision tower: give samples with an image.")
    if not found.outliers:
        limit = f"{FACTOR:g} medians" if threshold is None else f"{threshold:g}"
        raise NoOutliers(
            f"None of {found.patches} patches has a norm above {limit} behind layer {place} of the vision tower (the "
            f"largest is {found.largest:.1f} medians), so it has no register neurons: give more pictures, another "
            "layer or a lower threshold."
        )
    named = found.result(count, place, last_layer)
    return replace(named, model=str(getattr(model, "name", "")), weights=weights_digest(anatomy))


@dataclass
class _Sums:
    """Over pictures: scores by layer, how far the outliers stand out behind each layer, and how many there are."""

    depth: int
    scores: dict[int, Tensor] = field(default_factory=dict)
    standing: list[float] = field(default_factory=list)
    ratio: float = 0.0
    largest: float = 0.0
    outliers: int = 0
    patches: int = 0
    pictures: int = 0

    def add(self, anatomy: Anatomy, inputs: Mapping[str, Any], threshold: float | None, layer: int) -> None:
        """One input's pictures."""
        norms = tower_norms(anatomy, inputs).values
        if not norms.numel():
            return
        medians = norms.nanmedian(1).values
        limits = FACTOR * medians if threshold is None else torch.full_like(medians, threshold)
        outliers = norms[layer] > limits[layer]  # what is no patch has the norm NaN and is above nothing
        self.patches += int(norms[layer].isfinite().sum())
        self.largest = max(self.largest, float((norms[layer] / medians[layer]).nan_to_num().max()))
        if not bool(outliers.any()):
            return
        own = norms[:, outliers]
        standing = (own.mean(1) / limits).tolist()
        self.standing = [a + b for a, b in zip(self.standing or [0.0] * self.depth, standing, strict=True)]
        self.ratio += float((own[layer] / medians[layer]).sum())
        self.outliers += int(outliers.sum())
        self.pictures += 1
        for number, activity in _activity(anatomy, inputs, outliers).items():
            self.scores[number] = self.scores.get(number, 0) + activity

    def result(self, count: int, layer: int, last_layer: int | None) -> RegisterNeurons:
        """The neurons of the highest scores."""
        first = next((at for at, each in enumerate(self.standing) if each >= self.pictures), layer)
        last = first if last_layer is None else last_layer
        values = torch.stack([self.scores[number] for number in range(last + 1)]) / self.pictures
        top = values.flatten().topk(min(count, values.numel()))
        names = [divmod(place, values.shape[1]) for place in top.indices.tolist()]
        return RegisterNeurons(
            tuple(f"{layer_}.{neuron}" for layer_, neuron in names),
            tuple(top.values.tolist()),
            layer,
            last,
            self.outliers,
            self.patches,
            self.ratio / self.outliers,
        )


@dataclass(frozen=True)
class TowerNorms:
    """Norms inside a tower.

    Attributes:
        values: of each token behind each layer, in the tower's order; NaN at class tokens and padding.
        sizes: tokens of each picture or crop.
    """

    values: Float[Tensor, "layers tokens"]
    sizes: tuple[int, ...]


def tower_norms(anatomy: Anatomy, inputs: Mapping[str, Any], method: Registers | None = None) -> TowerNorms:
    """The norms behind each layer of the tower; method: registers that act meanwhile.

    Without a picture in the inputs there are no tokens: [layers, 0].
    """
    name = "The search for register neurons"
    layers = tower_neurons(name, anatomy)
    found: dict[int, list[Tensor]] = {number: [torch.zeros(0)] for number in range(len(layers))}
    patches = [torch.zeros(0, dtype=torch.bool)]
    sizes: list[int] = []
    chosen = {} if method is None else method.chosen(anatomy)

    def shift(layer: int, a: Tensor, pictures: Pictures) -> Tensor:
        return a if method is None else method.move(a, chosen[layer], pictures)

    def note(layer: int, module: nn.Module, args: Any, output: Any) -> None:
        state = output if isinstance(output, Tensor) else output[0]
        found[layer].append(state.detach().float().norm(dim=-1).reshape(-1).cpu())
        if layer == 0 and tokens.pictures is not None:
            rows = state.shape[0] if state.dim() == 3 else 1
            patches.append(_patches(tokens.pictures, rows))
            sizes.extend(tokens.pictures.sizes * rows)

    tokens = TowerTokens(name, anatomy, 0 if method is None else method.count, shift, tuple(chosen))
    with _running(anatomy, tokens) as hooks:
        for number, layer in enumerate(layers):
            hooks.after(layer.block, partial(note, number))
        _run(anatomy, inputs)
    norms = torch.stack([torch.cat(parts) for parts in found.values()])
    return TowerNorms(norms.masked_fill(~torch.cat(patches), torch.nan), tuple(sizes))


def _activity(anatomy: Anatomy, inputs: Mapping[str, Any], outliers: Bool[Tensor, " tokens"]) -> dict[int, Tensor]:
    """By layer, [neurons]: mean |activation| at the outliers."""
    name = "The search for register neurons"
    layers = tuple(range(len(tower_neurons(name, anatomy))))
    found: dict[int, Tensor] = {}
    seen = dict.fromkeys(layers, 0)

    def shift(layer: int, a: Tensor, pictures: Pictures) -> Tensor:
        flat = a.detach().reshape(-1, a.shape[-1])
        mine = outliers[seen[layer] : seen[layer] + len(flat)].to(flat.device)
        seen[layer] += len(flat)
        total = flat[mine].float().abs().sum(0).cpu() / int(outliers.sum())
        found[layer] = found[layer] + total if layer in found else total
        return a

    with _running(anatomy, TowerTokens(name, anatomy, 0, shift, layers)):
        _run(anatomy, inputs)
    return found


@contextmanager
def _running(anatomy: Anatomy, tokens: TowerTokens) -> Iterator[Hooks]:
    """Inside, the tower is looked into, and nothing else acts."""
    with (
        alone(anatomy, "find_register_neurons"),
        tokens.standing(in_bypassed=True),
        Hooks(anatomy, in_bypassed=True) as hooks,
    ):
        yield hooks


def _run(anatomy: Anatomy, inputs: Mapping[str, Any]) -> None:
    with torch.no_grad():
        plain_pass(anatomy.model, inputs)


def _patches(pictures: Pictures, rows: int) -> Bool[Tensor, " tokens"]:
    """Which of the tower's tokens are patches of a picture, row after row."""
    own = ~pictures.is_new
    marks = (~pictures.is_class)[own].expand(rows, -1)
    return (marks if pictures.present is None else marks & pictures.present[:, own]).reshape(-1).cpu()


def _inputs(model: Any, given: Any) -> dict[str, Any]:
    if isinstance(given, Sample):
        if not hasattr(model, "encode"):
            raise InputError("A bare model can't read samples: give a VLM, or inputs of the forward.")
        given = model.encode(given)
    return dict(given)
