"""Steering by directions found in pairs: hidden states turned towards one meaning and away from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.attention import bypassed
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.data.sample import Sample
from sightline.errors import InputError, ModelError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.generating import check_least
from sightline.methods.hidden import changed_outputs, feed_forward
from sightline.models.anatomy import Anatomy
from sightline.models.anatomy.vision_layers import image_tower, tower_layers
from sightline.models.logits import last_logits
from sightline.models.transformers_api.cache import with_cache

Part = Literal["text", "tower"]
"""Whose layers a direction is of: the decoder's, or the vision tower's."""


@dataclass(frozen=True)
class Direction:
    """A direction for every layer of a model.

    Attributes:
        values: of each layer, in the units of its hidden states.
        kind: mean, or pca.
        part: the decoder (text) or the vision tower.
        weights: a short digest of the weights it was found in; other weights refuse it.
    """

    values: Float[Tensor, "layers hidden"]
    kind: str
    part: str
    weights: str

    def save(self, path: str | Path) -> None:
        """As a safetensors file."""
        from safetensors.torch import save_file

        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        about = {"format": "pt", "kind": self.kind, "part": self.part, "weights": self.weights}
        save_file({"direction": self.values.float().cpu().contiguous()}, file, metadata=about)


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
    model: Any, pairs: Iterable[tuple[Any, Any]], *, kind: Literal["mean", "pca"] = "mean", part: Part = "text"
) -> Direction:
    """What distinguishes the first of each pair from the second, in every layer.

        d_l = mean over pairs of h_l(first) - h_l(second)                           kind = mean
        d_l = that mean + the first principal axis of the differences, turned to its side and of the length of their
              deviation along it                                                    kind = pca, as VTI has it

    h_l: [hidden], behind layer l, at the last position of a text; averaged over the patches of an image.

    Args:
        model: a `VLM`, or a bare Transformers model.
        pairs: each two `Sample`, two texts, or two inputs of the forward, as a true caption and a false one
            (`sightline train-data negatives` makes such pairs).
        part: text, for the decoder, or tower, for the vision tower.

    Raises:
        InputError: without a pair, and for a kind or part that is not there.
    """
    anatomy, _ = anatomy_and_layout(model, None)
    if kind not in ("mean", "pca"):
        raise InputError(f"kind is {kind}: give mean or pca.")
    modules = [module for module, _ in parts_of("find_direction", anatomy, part)]

    def states(given: Any) -> Tensor:
        return states_of(anatomy, modules, _inputs(model, given), part)

    found = [states(one) - states(two) for one, two in pairs]
    if not found:
        raise InputError("find_direction is given no pair: give at least one.")
    differences = torch.stack(found, 1)
    values = differences.mean(1)
    if kind == "pca" and len(found) > 1:
        values = values + torch.stack([_axis(layer) for layer in differences])
    return Direction(values, kind, part, weights_digest(anatomy))


@register
@dataclass(frozen=True)
class Steer(Method):
    """Turns what each layer's feed-forward part puts out towards a direction, at its own length.

        x <- |x| normalize(x/|x| + strength d_l/|d_l|)

    x: [batch, positions, hidden], at every position, in the prompt and while decoding; d_l: of layer l, found by
    `sl.find_direction` and saved. It acts on all that runs inside. strength = 0 changes nothing; below 0 it turns away.
    Control: `random` = true, as strong a turn towards a random direction.
    """

    name: ClassVar[str] = "steer"
    direction: str | None = setting(None, "file of the direction, as `find_direction(...).save(FILE)` writes it")
    strength: float = setting(0.1, "how strong the turn is; 0 is none, below 0 is away")
    layers: tuple[int, ...] | None = setting(None, "only these layers, as 2+3+4; by default all")
    random: bool = setting(False, "a control: random directions")
    seed: int = setting(0, "of random directions")

    def require_complete(self) -> None:
        """InputError without a direction."""
        if self.direction is None:
            raise InputError(f"{self.name} needs a direction: give the field direction, a file of `find_direction`.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside.

        Raises:
            InputError: without a direction, for one of another model, and for a layer the model has not.
            ModelError: for a model whose feed-forward parts are not found.
        """
        anatomy, _ = anatomy_and_layout(model, layout)
        self.require_complete()
        with turned(self.name, anatomy, self.direction or "", self.strength, self.layers, self.random, self.seed):
            yield


@register
@dataclass(frozen=True)
class VTI(Method):
    """Steers the decoder and the vision tower at once (arXiv 2410.15778; confirmed in its public code).

        decoder:  x <- |x| normalize(x/|x| + 0.1 alpha d_l/|d_l|)       d: true minus hallucinated captions, pca
        tower:    x <- |x| normalize(x/|x| + 0.1 beta d_l/|d_l|)        d: pictures minus masked pictures, pca

    x: [batch, positions, hidden], what each feed-forward part puts out. Both directions are files of `find_direction`
    (part text, and part tower); either may be left out. The paper finds the first in 70 pairs of captions, and the
    second in 50 copies of each picture with 99% of the patches at their mean, one for each patch: here one serves all
    patches. Control: `random` = true.
    """

    name: ClassVar[str] = "vti"
    text: str | None = setting(None, "file of the decoder's direction")
    vision: str | None = setting(None, "file of the vision tower's direction")
    alpha: float = setting(0.9, "strength in the decoder, in tenths, 0 (none) or more")
    beta: float = setting(0.9, "strength in the vision tower, in tenths, 0 (none) or more")
    random: bool = setting(False, "a control: random directions")
    seed: int = setting(0, "of random directions")

    def __post_init__(self) -> None:
        check_least(self.name, 0, alpha=self.alpha, beta=self.beta)

    def require_complete(self) -> None:
        """InputError without any direction."""
        if self.text is None and self.vision is None:
            raise InputError("vti needs a direction: give the fields text and vision, files of `find_direction`.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside; errors as of `Steer`."""
        anatomy, _ = anatomy_and_layout(model, layout)
        self.require_complete()
        with ExitStack() as stack:
            for file, strength in ((self.text, self.alpha), (self.vision, self.beta)):
                if file is not None:
                    act = turned(self.name, anatomy, file, 0.1 * strength, None, self.random, self.seed)
                    stack.enter_context(act)
            yield


@contextmanager
def turned(
    name: str, anatomy: Anatomy, file: str, strength: float, layers: tuple[int, ...] | None, random: bool, seed: int
) -> Iterator[None]:
    """Inside, the feed-forward parts of a direction's layers put out what is turned towards it."""
    direction = read_direction(file)
    if direction.weights != weights_digest(anatomy):
        raise InputError(
            f"The direction of {name} in {file} was found in other weights than this model's: find it anew."
        )
    parts = parts_of(name, anatomy, direction.part)
    for layer in layers or ():
        if not 0 <= layer < len(parts):
            raise InputError(f"Layer {layer} is out of range in {name}: there are layers 0 to {len(parts) - 1}.")
    values = direction.values
    if random:
        values = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
    unit = torch.nn.functional.normalize(values, dim=-1)

    def turn(layer: int, x: Float[Tensor, "batch positions hidden"]) -> Tensor:
        size: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        towards = x / size.clamp_min(1e-12) + strength * unit[layer].to(x)
        return size * torch.nn.functional.normalize(towards, dim=-1)

    chosen = {layer: part for layer, (_, part) in enumerate(parts) if layers is None or layer in layers}
    if not strength:
        yield
        return
    with changed_outputs(anatomy, chosen, turn):
        yield


def parts_of(name: str, anatomy: Anatomy, part: str) -> list[tuple[nn.Module, nn.Module]]:
    """Each layer of the decoder or tower, with its feed-forward part."""
    if part == "text":
        return [(layer, feed_forward(name, anatomy, number)) for number, layer in enumerate(anatomy.layers)]
    tower = image_tower(anatomy)
    blocks = [] if tower is None else [block for block, _ in tower_layers(tower)]
    found = [(block, getattr(block, "mlp", None)) for block in blocks]
    if not found or any(inner is None for _, inner in found):
        raise ModelError(f"{name} finds no feed-forward parts in the vision tower of {type(anatomy.model).__name__}.")
    return [(block, inner) for block, inner in found if inner is not None]


def states_of(
    anatomy: Anatomy, layers: list[nn.Module], inputs: dict[str, Any], part: str
) -> Float[Tensor, "layers hidden"]:
    """What leaves each layer: at the last position of a text, on average over the patches of an image."""
    found: list[Tensor] = []

    def note(module: Any, args: Any, output: Any) -> None:
        state = (output if isinstance(output, Tensor) else output[0]).float()
        found.append(state.reshape(-1, state.shape[-1]).mean(0) if part == "tower" else state[0, -1])

    with Hooks(anatomy, in_bypassed=True) as hooks, bypassed(anatomy), torch.no_grad():
        for layer in layers:
            hooks.after(layer, note)
        anatomy.model(**with_cache({**inputs, "use_cache": False, **last_logits(anatomy.model)}, None, anatomy.model))
    return torch.stack(found)


def weights_digest(anatomy: Anatomy) -> str:
    """Distinguishes other weights from these: of every parameter's shape, and a few numbers of each."""
    digest = hashlib.sha256()
    for name, value in anatomy.model.named_parameters():
        flat = value.detach().reshape(-1)
        some = flat[:: max(1, len(flat) // 16)][:16].float().cpu()
        digest.update(f"{name}{tuple(value.shape)}{[round(float(one), 4) for one in some]}".encode())
    return digest.hexdigest()[:16]


def _inputs(model: Any, given: Any) -> dict[str, Any]:
    if isinstance(given, str | Sample):
        if not hasattr(model, "encode"):
            raise InputError("A bare model can't read texts or samples: give a VLM, or pairs of the forward's inputs.")
        given = model.encode(Sample(prompt=given) if isinstance(given, str) else given)
    return dict(given)


def _axis(differences: Float[Tensor, "pairs hidden"]) -> Float[Tensor, " hidden"]:
    """The first principal axis, on the side of the mean, as long as the deviation along it."""
    mean = differences.mean(0)
    _, sizes, axes = torch.linalg.svd(differences - mean, full_matrices=False)
    sign = torch.where(axes[0] @ mean < 0, -1.0, 1.0)
    axis: Tensor = sign * axes[0] * sizes[0] / len(differences) ** 0.5
    return axis
