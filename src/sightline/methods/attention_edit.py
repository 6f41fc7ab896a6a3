"""Methods that change the attention of some rows: scores before the softmax, or weights behind it.

A method says which rows it acts on and gives one function from a block of values to its new values; layers, rows,
padding, samples without an image, and the keys that belong to the image are found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout
from sightline.methods.scoring import PlacesOf, require_image
from sightline.models.anatomy import Anatomy

Rows = Literal["last", "last of the prompt", "after the image", "all of the prompt"]
"""last: the row that predicts the next token, in the prompt and while decoding; "last of the prompt": that row of the
prompt alone; "after the image": rows behind a sample's last image token, and all while decoding; "all of the prompt":
every row of the prompt, and none while decoding."""


@dataclass(frozen=True)
class Keys:
    """What an edit knows of the call it changes.

    Attributes:
        image, text, system: which keys are the image's, all other words', and words' before the image.
        behind: which keys stand behind the image, generated ones among them.
        acts: which rows of the call the method acts on.
        layer: of the model.
        head: the first query head of the block.
        known: what the method's `at_prompt` found.
        seen: what the method's `at_call` found.
        rows: which of the rows that `at_call` was given those of the block are.
    """

    image: Bool[Tensor, "batch 1 1 keys"]
    text: Bool[Tensor, "batch 1 1 keys"]
    system: Bool[Tensor, "batch 1 1 keys"]
    behind: Bool[Tensor, "batch 1 1 keys"]
    acts: Bool[Tensor, "batch queries"]
    layer: int
    head: int = 0
    known: Any = None
    seen: Any = None
    rows: Any = None


@dataclass(frozen=True)
class AttentionEdit(Method):
    """Base: `edit` turns a block of scores (`stage` scores) or weights (`stage` weights) into what the model uses.

    Values are float32, computed beside the model's kernel. In scores, keys that a row may not see are 0 as `edit` gets
    them, and stay hidden whatever it gives back; rows and samples that the method does not act on keep their values.
    """

    rows: ClassVar[Rows] = "last"
    stage: ClassVar[Literal["scores", "weights"]] = "scores"
    prompt_in_pieces: ClassVar[bool] = True
    """Whether a prompt may come in several passes."""

    def edit(
        self, values: Float[Tensor, "batch heads rows keys"], keys: Keys
    ) -> Float[Tensor, "batch heads rows keys"]:
        """The new values."""
        raise NotImplementedError

    def chosen_layers(self, anatomy: Anatomy) -> frozenset[int]:
        """The layers acted on; InputError for one that the model has not. By default all with softmax attention."""
        return frozenset(anatomy.attention_layers)

    @property
    def is_idle(self) -> bool:
        """Whether these settings change nothing at all."""
        return False

    def at_prompt(self, anatomy: Anatomy, step: ForwardPass) -> Any:
        """What has to be known of a prompt before it runs; `edit` finds it as `keys.known`."""
        return None

    def at_call(self, call: AttentionCall, rows: Tensor, keys: Keys) -> Any:
        """What has to be known of all heads of a call, for these of its rows; `edit` finds it as `keys.seen`."""
        return None

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside.

        Raises:
            InputError: for a layer the model has not, and for a prompt without an image.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        editor = _Editor(self, anatomy, self.chosen_layers(anatomy))
        if self.is_idle:
            yield
            return
        with attach(anatomy, editor=editor, layout=source):
            yield


class _Editor:
    """Acts for one `with`."""

    def __init__(self, method: AttentionEdit, anatomy: Anatomy, layers: frozenset[int]) -> None:
        self._method, self._anatomy, self._layers = method, anatomy, layers
        self._places, self._known = PlacesOf(), None
        self._shared: dict[tuple[int, int, int], tuple[Tensor, Keys]] = {}

    def begin(self, step: ForwardPass) -> None:
        """A prompt must have an image."""
        self._shared = {}
        if step.is_start:
            require_image(self._method.name, step.layout)
            self._known = self._method.at_prompt(self._anatomy, step)
        elif not step.is_decoding and not self._method.prompt_in_pieces:
            raise InputError(f"{self._method.name} needs the whole prompt in one pass: leave prefill_chunk_size out.")

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """The change of the method's rows."""
        method = self._method
        if layer not in self._layers or (method.rows.endswith("of the prompt") and step.is_decoding and step.offset):
            return None
        shape = (call.queries, call.keys, call.first_key)
        if shape not in self._shared:
            self._shared[shape] = self._found(call, step)
        rows, keys = self._shared[shape]
        if not len(rows):
            return None
        keys = replace(keys, layer=layer)
        seen = method.at_call(call, rows, keys)
        change = _changing(method, keys if seen is None else replace(keys, seen=seen), rows)
        return Edit(rows, scores=change) if method.stage == "scores" else Edit(rows, weights=change)

    def _found(self, call: AttentionCall, step: ForwardPass) -> tuple[Int[Tensor, " rows"], Keys]:
        """The rows acted on, and what the keys are: the same in all layers of a pass whose calls have this shape."""
        places = self._places.at(step, call.query.device)
        wanted = self._wanted(call, places.end, places.last)
        rows = wanted.any(0).nonzero()[:, 0]
        image, text, system = (
            places.keys(which, call)[:, None, None] for which in (places.visual, places.text, places.system)
        )
        place = torch.arange(call.keys, device=wanted.device) + call.first_key
        behind = (place > places.last[:, None]) & (places.last >= 0)[:, None]
        return rows, Keys(image, text, system, behind[:, None, None], wanted, 0, known=self._known)

    def _wanted(self, call: AttentionCall, end: Tensor, last: Tensor) -> Bool[Tensor, "batch queries"]:
        """Which rows of each sample: with padding on the right, ends stand at different places."""
        place = torch.arange(call.queries, device=end.device) + call.offset
        rows = self._method.rows
        if rows == "last of the prompt":
            return place == end[:, None]
        if rows == "last":
            return place >= end[:, None]
        if rows == "after the image":
            return place > last[:, None]
        return (place <= end[:, None]) & (last >= 0)[:, None]


def _changing(
    method: AttentionEdit, keys: Keys, rows: Int[Tensor, " rows"]
) -> Callable[[Block], Float[Tensor, "batch heads rows keys"]]:
    def change(block: Block) -> Tensor:
        values = block.values
        mine = keys.acts[:, block.rows][:, None, :, None]
        if method.stage == "scores":
            visible = values.isfinite()
            mine = mine & visible
            values = values.masked_fill(~visible, 0.0)
        known = keys if keys.seen is None else replace(keys, rows=torch.searchsorted(rows, block.rows))
        return torch.where(mine, method.edit(values, replace(known, head=block.head)), block.values)

    return change
