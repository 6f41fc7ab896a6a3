"""What the methods that act on sink tokens share: their fields, the sinks of the prompt, the rows after the image."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.attention.sink_tracker import TAU, SinkTracker, check_dims, track_sinks
from sightline.errors import InputError, SightlineWarning
from sightline.methods.artifacts import sinks_in
from sightline.methods.base import Method, anatomy_and_layout, setting
from sightline.methods.scoring import require_no_image_behind_text
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout

_ROOM = 256
"""Columns kept free for generated keys, so that a step's slice costs no copy."""


@dataclass(frozen=True)
class SinkMethod(Method):
    """Base of the methods that act on sinks: token x of layer l is one when phi(x) > tau, see
    `sightline.attention.sink_tracker`."""

    name: ClassVar[str] = ""
    dims: tuple[int, ...] | None = setting(
        None, "sink dimensions of the model, as 1415+2533; --sinks FILE fills them", artifact=True
    )
    tau: float = setting(TAU, "a token is a sink above this phi, 0 to sqrt(hidden size)")
    skip_last: bool = setting(True, "leave the last layer alone, as the paper says")
    layers: tuple[int, ...] | None = setting(None, "only these layers, as 2+3+4; by default all from 2 on")
    heads: tuple[int, ...] | None = setting(None, "only these query heads in each layer; by default all")

    def __post_init__(self) -> None:
        found: Any = sinks_in(self.dims)
        if hasattr(found, "dims"):  # what `sightline.find_sinks` found: its threshold goes with it
            object.__setattr__(self, "dims", found.dims)
            if self.tau == TAU:
                object.__setattr__(self, "tau", float(found.tau))
        for field in ("dims", "layers", "heads"):
            given = getattr(self, field)
            if given is not None:
                object.__setattr__(self, field, tuple(int(item) for item in given))
        if not 0 < self.tau < inf:
            raise InputError(f"tau is {self.tau} in {self.name}: give a phi above 0.")

    def require_share(self, *fields: str) -> None:
        """InputError for a field that is no share between 0 and 1."""
        for field in fields:
            value = getattr(self, field)
            if not 0 <= value <= 1:
                raise InputError(f"{field} is {value} in {self.name}: give a share from 0 to 1.")

    @property
    def is_idle(self) -> bool:
        """Whether these settings change nothing at all."""
        return False

    def editor(self, anatomy: Anatomy, watch: SinkTracker, layers: frozenset[int]) -> SinkEditor:
        """What acts inside the `with`."""
        raise NotImplementedError

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside, and on what is generated from it.

        Raises:
            InputError: without sink dimensions, for a layer, head or dimension the model has not, and when a prompt
                without an image is run.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        dims = check_dims(self._known_dims(), anatomy.hidden_size)
        layers = self._chosen_layers(anatomy)
        self._warn_of_no_effect(anatomy)
        if self.is_idle:
            yield
            return
        with (
            track_sinks(anatomy, dims, self.tau, layers) as watch,
            attach(anatomy, editor=self.editor(anatomy, watch, layers), layout=source, layers=layers),
        ):
            yield

    def require_complete(self) -> None:
        """InputError without sink dimensions."""
        self._known_dims()

    def _known_dims(self) -> tuple[int, ...]:
        if self.dims is None:
            raise InputError(
                f"{self.name} needs the model's sink dimensions: give what sl.find_sinks finds as its dims, or "
                "--sinks FILE, as `sightline sinks MODEL --data DATA --out DIR` writes it, or in measure and eval "
                "--sinks auto."
            )
        return self.dims

    def _chosen_layers(self, anatomy: Anatomy) -> frozenset[int]:
        count = len(anatomy.layers)
        outside = [layer for layer in self.layers or () if not 0 <= layer < count]
        if outside:
            raise InputError(
                f"Layer {outside[0]} is out of range in {self.name}: the model has layers 0 to {count - 1}."
            )
        outside = [head for head in self.heads or () if not 0 <= head < anatomy.num_heads]
        if outside:
            raise InputError(
                f"Head {outside[0]} is out of range in {self.name}: the model has heads 0 to {anatomy.num_heads - 1}."
            )
        chosen = set(anatomy.attention_layers if self.layers is None else self.layers)
        return frozenset(chosen - ({count - 1} if self.skip_last else set()))

    def _warn_of_no_effect(self, anatomy: Anatomy) -> None:
        highest = sqrt(anatomy.hidden_size)
        if not self.dims:
            warnings.warn(
                f"{self.name} changes nothing: no sinks were found in this model, so there is none to take attention "
                "from; `sightline list methods` shows the others.",
                SightlineWarning,
                stacklevel=4,
            )
        elif self.tau >= highest:
            warnings.warn(
                f"{self.name} changes nothing: no phi exceeds sqrt({anatomy.hidden_size}) = {highest:.1f} in this "
                f"model and tau is {self.tau:g}; `sightline sinks` tells whether the model has sinks, and which tau.",
                SightlineWarning,
                stacklevel=4,
            )


class SinkEditor:
    """Finds, for each forward pass, the rows after the image and what each layer needs to know about its keys."""

    stage: ClassVar[Literal["scores", "weights"]] = "weights"
    """What of the rows it changes."""
    prompt_in_pieces: ClassVar[bool] = True
    """Whether a prompt may come in several passes."""
    spares_start: ClassVar[bool] = True
    """Rows up to the last image token keep their attention."""

    def __init__(self, method: SinkMethod, anatomy: Anatomy, watch: SinkTracker, layers: frozenset[int]) -> None:
        self._name, self._watch, self._layers = method.name, watch, layers
        self._heads = None if method.heads is None else sorted(set(method.heads))
        self._layout: TokenLayout | None = None
        self._image = torch.zeros((0, 0), dtype=torch.bool)
        self._keys: dict[int, tuple[Tensor, ...] | None] = {}
        self._wanted: Tensor | None = None
        self._rows: Tensor | None = None

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts: what it needs is made once for all layers."""
        self._watch.begin(step)
        if step.is_start or step.layout is not self._layout:
            self._open(step)
        self._wanted = self._rows = None

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """The change of this layer's rows; None where the prompt has no image sink in this layer."""
        if layer not in self._layers:
            return None
        if layer not in self._keys:
            self._keys[layer] = self._prepare(layer, step)
        keys = self._keys[layer]
        if keys is None:
            return None
        if self._rows is None:
            self._rows, self._wanted = self._chosen_rows(call, step)
        if not len(self._rows):
            return None
        return self._change(layer, call, self._rows, self._wanted)

    def describe(self, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> tuple[Tensor, ...]:
        """[batch, ..., positions] each: what `changed` needs to know of the prompt's keys.

        image: [batch, positions], the visual tokens; sinks: alike, of samples that have a visual sink in this layer.
        """
        raise NotImplementedError

    def changed(self, values: Tensor, keys: tuple[Tensor, ...], head: int = 0, wanted: Tensor | None = None) -> Tensor:
        """New values of what `stage` names, [batch, heads, rows, keys], of heads from `head` on.

        keys: see `describe`, [batch, ..., keys] each. wanted: [batch, 1, rows], bool; None where all rows are.
        """
        raise NotImplementedError

    def row_stage(self, layer: int, step: ForwardPass) -> Literal["scores", "weights", "nothing"]:
        """See `RowEditor`: a layer without an image sink is left alone."""
        if layer not in self._layers:
            return "nothing"
        if layer not in self._keys:
            self._keys[layer] = self._prepare(layer, step)
        return "nothing" if self._keys[layer] is None else self.stage

    def edit_row(self, layer: int, values: Tensor, step: ForwardPass) -> Tensor:
        """The change of a decoding step's row."""
        return self.changed(values, self._columns(layer, 0, int(values.shape[-1])))

    def _change(self, layer: int, call: AttentionCall, rows: Tensor, wanted: Tensor | None) -> Edit:
        """The edit of these rows. wanted: [batch, queries], bool, or None where every sample wants all of `rows`."""
        keys = self._columns(layer, call.first_key, call.keys)

        def change(block: Block) -> Tensor:
            return self.changed(block.values, keys, block.head, None if wanted is None else wanted[:, None, block.rows])

        return Edit(rows, scores=change) if self.stage == "scores" else Edit(rows, weights=change)

    def _columns(self, layer: int, first: int, count: int) -> tuple[Tensor, ...]:
        """[batch, ..., keys] each: `describe` for so many keys from `first` on; 0 for generated ones."""
        known = self._keys[layer]
        if known is None:
            raise RuntimeError(f"layer {layer} has no sinks")
        end = first + count
        missing = end - int(known[0].shape[-1])
        if missing > 0:
            self._keys[layer] = known = tuple(torch.nn.functional.pad(each, (0, missing + _ROOM)) for each in known)
        return tuple([each[..., first:end] for each in known])

    def head_mask(self, first: int, count: int, device: torch.device) -> Tensor | None:
        """[1, count, 1], bool: which heads from `first` on are meant; None for all."""
        if self._heads is None:
            return None
        index = torch.arange(first, first + count, device=device)
        return torch.isin(index, torch.tensor(self._heads, device=device))[None, :, None]

    def _open(self, step: ForwardPass) -> None:
        if step.is_piece and not self.prompt_in_pieces:
            raise InputError(f"{self._name} needs the whole prompt in one pass: leave prefill_chunk_size out.")
        if step.is_piece:
            require_no_image_behind_text(self._name, step)
        self._layout, self._keys = step.layout, {}
        self._image = step.layout.mask(Modality.IMAGE, Modality.VIDEO)
        if step.is_start and not bool(self._image.any()):
            raise InputError(f"{self._name} gives attention back to the image, and this prompt has none: give one.")

    def _prepare(self, layer: int, step: ForwardPass) -> tuple[Tensor, ...] | None:
        marks = self._watch.marks(layer)
        if marks is None:
            return None
        image = self._image.to(marks.device)
        has_sink = (marks & image).any(1)
        if not bool(has_sink.any()):
            return None
        return self.describe(layer, step, image, marks & has_sink[:, None])

    def _chosen_rows(self, call: AttentionCall, step: ForwardPass) -> tuple[Tensor, Tensor | None]:
        device = call.query.device
        if step.is_decoding and step.offset >= step.layout.prompt_length:
            # Samples without an image have no sink columns, so that nothing changes for them.
            return torch.arange(call.queries, device=device), None
        place = torch.arange(step.offset, step.offset + call.queries)
        index = torch.arange(self._image.shape[1])
        last = torch.where(self._image, index, -1).amax(1)
        wanted = (place[None, :] > last[:, None]) & (last[:, None] >= 0)
        rows = wanted.any(0).nonzero()[:, 0]
        is_shared = bool(wanted[:, rows].all())
        return rows.to(device), None if is_shared else wanted.to(device)
