"""Directions found in pairs: what distinguishes the hidden states of one meaning from those of another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.attention.alone import alone
from sightline.attention.hooks import Hooks
from sightline.data.sample import Sample
from sightline.errors import InputError, ModelError
from sightline.methods.base import anatomy_and_layout
from sightline.methods.hidden import feed_forward, feed_forward_of
from sightline.models.anatomy import Anatomy
from sightline.models.anatomy.vision_layers import image_tower, tower_blocks
from sightline.models.logits import plain_pass
from sightline.models.weights_digest import weights_digest

Part = Literal["text", "tower"]
"""Whose layers a direction is of: the decoder's, or the vision tower's."""


_HELD: WeakValueDictionary[str, Direction] = WeakValueDictionary()
"""Directions in memory by the names that stand for them in specs."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction for every layer of a model.

    Attributes:
        values: of each layer, in the units of its hidden states; in a tower, of each patch too if found so.
        kind: mean, or pca.
        part: the decoder (text) or the vision tower.
        weights: a short digest of the weights it was found in; other weights refuse it.
    """

    values: Float[Tensor, "layers *patches hidden"]
    kind: str
    part: str
    weights: str

    def __str__(self) -> str:
        """A name by what it holds, which a spec of this process may have in the place of a file."""
        content = self.values.float().cpu().contiguous().numpy().tobytes()
        name = f"direction-{hashlib.sha256(content + f'{self.part}{self.weights}'.encode()).hexdigest()[:12]}"
        _HELD[name] = self
        return name

    def save(self, path: str | Path) -> None:
        """As a safetensors file."""
        from safetensors.torch import save_file

        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        about = {"format": "pt", "kind": self.kind, "part": self.part, "weights": self.weights}
        save_file({"direction": self.values.float().cpu().contiguous()}, file, metadata=about)


def held_direction(name: str) -> Direction | None:
    """The direction in memory that a spec means by this name."""
    return _HELD.get(name)


def read_direction(path: str | Path) -> Direction:
    """A direction as `Direction.save` writes it; InputError for a file that is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
            return Direction(file.get_tensor("direction"), about["kind"], about["part"], about["weights"])
    except FileNotFoundError:
        raise InputError(
            f"There is no file {path}: give a direction as `find_direction(...).save(FILE)` writes it."
        ) from None
    except (OSError, KeyError, SafetensorError):
        raise InputError(
            f"{path} holds no direction: give a file that `find_direction(...).save(FILE)` wrote."
        ) from None


def find_direction(
    model: Any,
    pairs: Iterable[tuple[Any, Any]],
    *,
    kind: Literal["mean", "pca"] = "mean",
    part: Part = "text",
    each_patch: bool = False,
) -> Direction:
    """What distinguishes the first of each pair from the second, in every layer.

        d_l = mean over pairs of h_l(first) - h_l(second)                           kind = mean
        d_l = that mean + layer l's part of the first principal axis, of length 1, of all layers' differences in one
              row, on the side of the pair that lies farthest along it              kind = pca, as VTI has it

    h_l: [hidden], behind layer l, at the last position of a text; averaged over the patches of an image. As in VTI's
    public code pca takes the decoder's last state behind the final norm, h_0 is what enters the first layer, and the
    axis, of length 1 in all layers together, adds little to differences that are long.

    Args:
        model: a `VLM`, or a bare Transformers model.
        pairs: each two `Sample`, two texts, or two inputs of the forward, as a true caption and a false one
            (`sightline train-data negatives` makes such pairs). One of them may be a list, whose states are averaged:
            VTI's tower goes from a picture (second) to many copies of it with masked patches (first).
        part: text, for the decoder, or tower, for the vision tower.
        each_patch: of a tower, a direction for each patch; all pictures then need as many. VTI has it so.

    Raises:
        InputError: without a pair, for a kind or part that is not there, for pictures of unlike size, and for pairs
            whose sides are alike.
    """
    anatomy, _ = anatomy_and_layout(model, None)
    if kind not in ("mean", "pca"):
        raise InputError(f"kind is {kind}: give mean or pca.")
    if each_patch and part != "tower":
        raise InputError("each_patch is of the vision tower: give part tower with it.")
    modules = [module for module, _ in parts_of("find_direction", anatomy, part)]

    def states(given: Any) -> Tensor:
        several = given if isinstance(given, list | tuple) else [given]
        read = [_states(anatomy, modules, _inputs(model, one), part, each_patch, kind == "pca") for one in several]
        if len({state.shape for state in read}) > 1:
            raise InputError("The pictures differ in their number of patches: give pictures of one size.")
        return torch.stack(read).mean(0)

    found = [(states(one), states(two)) for one, two in map(_pair, pairs)]
    if not found:
        raise InputError("find_direction is given no pair: give at least one.")
    if len({state.shape for pair in found for state in pair}) > 1:
        raise InputError("The pictures differ in their number of patches: give pictures of one size.")
    differences = torch.stack([one - two for one, two in found])
    values = differences.mean(0)
    if kind == "pca" and len(found) > 1:
        values = values + _axis(differences)
    if not bool(values[1:].isfinite().all()):
        raise InputError("The states of the pairs are not finite, so there is no direction: load the model in float32.")
    if not bool(values[1:].any()):
        side = "their pictures, in the vision tower" if part == "tower" else "the last positions, in the decoder"
        raise InputError(
            f"The sides of the pairs do not differ on average ({side}), so there is no direction: give pairs that do."
        )
    return Direction(values[1:].contiguous(), kind, part, weights_digest(anatomy))


def _pair(given: Any) -> tuple[Any, Any]:
    if isinstance(given, str | Sample) or not hasattr(given, "__len__") or len(given) != 2:
        raise InputError(
            f"find_direction is given {type(given).__name__} where a pair is wanted: give (first, second)."
        )
    first, second = given
    return first, second


def parts_of(name: str, anatomy: Anatomy, part: str) -> list[tuple[nn.Module, nn.Module]]:
    """Each layer of the decoder or tower, with its feed-forward part."""
    if part == "text":
        return [(layer, feed_forward(name, anatomy, number)) for number, layer in enumerate(anatomy.layers)]
    tower, kind = image_tower(anatomy), type(anatomy.model).__name__
    if tower is None:
        raise ModelError(f"{name} acts in the vision tower, and {kind} has no vision tower.")
    found = [(block, feed_forward_of(block, attention)) for block, attention in tower_blocks(tower)]
    if not found or any(inner is None for _, inner in found):
        raise ModelError(f"{name} finds no feed-forward parts in the vision tower of {kind}.")
    return [(block, inner) for block, inner in found if inner is not None]


def _states(
    anatomy: Anatomy, layers: list[nn.Module], inputs: dict[str, Any], part: str, each_patch: bool, normed: bool
) -> Float[Tensor, "states *patches hidden"]:
    """What enters the first layer, and what leaves each: at the last position of a text, or of an image's patches."""
    found: list[Tensor] = []

    def keep(state: Tensor) -> None:
        if part == "text":
            found.append(state[0, -1].float())
            return
        patches = state.float().reshape(-1, *state.shape[-2:]).mean(0)
        found.append(patches if each_patch else patches.mean(0))

    def enters(module: Any, args: Any, kwargs: Any) -> None:
        # Llama 4 has called it otherwise.
        keep(args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()))))

    def leaves(module: Any, args: Any, output: Any) -> None:
        keep(output if isinstance(output, Tensor) else output[0])

    with Hooks(anatomy, in_bypassed=True) as hooks, alone(anatomy, "find_direction"), torch.no_grad():
        hooks.before(layers[0], enters)
        for layer in layers:
            hooks.after(layer, leaves)
        plain_pass(anatomy.model, inputs)
        if part == "text" and normed and anatomy.norm is not None:
            norm = anatomy.norm
            found[-1] = norm(found[-1].to(next(norm.parameters(), found[-1]).dtype)).float()
    return torch.stack(found)


def _inputs(model: Any, given: Any) -> dict[str, Any]:
    if isinstance(given, str | Sample):
        if not hasattr(model, "encode"):
            raise InputError("A bare model can't read texts or samples: give a VLM, or pairs of the forward's inputs.")
        given = model.encode(Sample(prompt=given) if isinstance(given, str) else given, allow_text_only=True)
    return dict(given)


def _axis(differences: Float[Tensor, "pairs *states hidden"]) -> Float[Tensor, "*states hidden"]:
    """The first principal axis of rows of all states, in VTI's public code of as many rows as there are patches."""
    pairs, shape = len(differences), differences.shape[1:]
    # [states, patches, hidden] is cut there into rows as it lies in memory, states first.
    rows = differences.reshape(pairs, shape[1] if len(shape) == 3 else 1, -1).transpose(0, 1)
    sides, sizes, axes = torch.linalg.svd(rows - rows.mean(1, keepdim=True), full_matrices=False)
    side = sides[:, :, 0]
    sign = side.gather(1, side.abs().argmax(1, keepdim=True)).sign()
    # Where all pairs are alike there is no axis.
    axis: Tensor = sign * axes[:, 0] * (sizes[:, :1] > 1e-6 * rows.abs().amax().clamp_min(1e-30))
    return axis.reshape(shape)
