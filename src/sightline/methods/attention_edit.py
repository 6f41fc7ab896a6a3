"""Methods that change the attention of some rows: scores before the softmax, or weights behind it.

A method says which rows it acts on and gives one function from a block of values to its new values; layers, rows,
padding, samples without an image, and the keys that belong to the image are found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout
from sightline.methods.scoring import PlacesOf, require_image, require_no_image_behind_text
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality

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
        shared: what the method's `at_pass` found.
        seen: what the method's `at_call` found.
        rows: which of the rows that `at_call` was given those of the block are; by default all.
        is_step: whether all rows are of a decoding step, on all of which the method acts.
    """

    image: Bool[Tensor, "batch 1 1 keys"]
    text: Bool[Tensor, "batch 1 1 keys"]
    system: Bool[Tensor, "batch 1 1 keys"]
    behind: Bool[Tensor, "batch 1 1 keys"]
    acts: Bool[Tensor, "batch queries"]
    layer: int
    head: int = 0
    known: Any = None
    shared: Any = None
    seen: Any = None
    rows: Any = ...
    is_step: bool = False

    def having(self, **changes: Any) -> Keys:
        """The same but for these; `dataclasses.replace` takes longer than an edit of a short row."""
        new = object.__new__(Keys)
        new.__dict__.update(self.__dict__, **changes)
        return new


@dataclass(frozen=True)
class AttentionEdit(Method):
    """Base: `edit` turns a block of scores (`stage` scores) or weights (`stage` weights) into what the model uses.

    Values are float32, computed beside the model's kernel. In scores, keys that a row may not see are 0 as `edit` gets
    them, and stay hidden whatever it gives back; rows and samples that the method does not act on keep their values.
    """

    rows: ClassVar[Rows] = "last"
    stage: ClassVar[Literal["scores", "weights"]] = "scores"
    prompt_in_pieces: ClassVar[bool] = False
    """Whether a prompt may come in several passes: the last row of a piece is not known not to be the prompt's."""

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

    def at_pass(self, keys: Keys) -> Any:
        """What of the keys is the same in all layers of a pass; `edit` finds it as `keys.shared`."""
        return None

    def at_call(self, call: AttentionCall, rows: Tensor, keys: Keys) -> Any:
        """What has to be known of all heads of a call, for these of its rows; `edit` finds it as `keys.seen`."""
        return None

    def at_row(self, scores: Float[Tensor, "batch heads 1 keys"], keys: Keys) -> Any:
        """What `at_call` finds, of one row that sees every key, by its scores before any edit."""
        raise NotImplementedError

    def by_kernel(
        self, call: AttentionCall, rows: Int[Tensor, " rows"], keys: Keys
    ) -> Float[Tensor, "batch queries heads value_dim"] | None:
        """The call's whole output, where the model's own kernel can compute what `edit` comes to; else None."""
        return None

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside.

        Raises:
            InputError: for a layer the model has not, and for a prompt without an image.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        for field, words in (("rows", get_args(Rows)), ("stage", ("scores", "weights"))):
            if getattr(self, field) not in words:
                name = self.name or type(self).__name__
                raise InputError(f"{field} is '{getattr(self, field)}' in {name}: give {', '.join(words)}.")
        layers = self.chosen_layers(anatomy)
        if self.is_idle:
            yield
            return
        with attach(anatomy, editor=_Editor(self, anatomy), layout=source, layers=layers):
            yield


class _Editor:
    """Acts for one `with`."""

    def __init__(self, method: AttentionEdit, anatomy: Anatomy) -> None:
        self._method, self._anatomy = method, anatomy
        self._places, self._known = PlacesOf(), None
        self._shared: dict[tuple[int, int, int], tuple[Tensor, Keys]] = {}
        self._row: Keys | None = None
        self._has_at_call = type(method).at_call is not AttentionEdit.at_call
        self.see_row = None if type(method).at_row is AttentionEdit.at_row else self._see_row
        self.spares_start = method.rows != "all of the prompt"

    def begin(self, step: ForwardPass) -> None:
        """A prompt must have an image."""
        self._shared, self._row = {}, None
        if step.is_start:
            require_image(self._method.name, step.layout)
            self._known = self._method.at_prompt(self._anatomy, step)
        elif step.is_piece and not self._method.prompt_in_pieces:
            raise InputError(f"{self._method.name} needs the whole prompt in one pass: leave prefill_chunk_size out.")
        elif step.is_piece:
            require_no_image_behind_text(self._method.name, step)

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """The change of the method's rows."""
        method = self._method
        if step.is_decoding and step.offset and method.rows.endswith("of the prompt"):
            return None
        shape = (call.queries, call.keys, call.first_key)
        found = self._shared.get(shape)
        if found is None:
            found = self._shared[shape] = self._found(*shape, step.offset, call.query.device, step)
        rows, keys = found
        if not len(rows):
            return None
        keys = keys.having(layer=layer)
        if self._has_at_call:
            keys = keys.having(seen=method.at_call(call, rows, keys))
        change = _changing(method, keys, rows, keys.is_step and call.is_open)
        by_kernel = partial(method.by_kernel, call, rows, keys)
        if method.stage == "scores":
            return Edit(rows, scores=change, by_kernel=by_kernel)
        return Edit(rows, weights=change, by_kernel=by_kernel)

    def changes_last(self, step: ForwardPass) -> bool:
        """See `RowEditor`: of samples that are not padded on the right."""
        ends = step.layout.length == step.length and bool((step.layout.modality[:, -1] != int(Modality.PADDING)).all())
        return ends and self._method.rows in ("last", "last of the prompt")

    def row_stage(self, layer: int, step: ForwardPass) -> Literal["scores", "weights", "nothing"] | None:
        """See `RowEditor`; a method of the prompt alone leaves decoding rows as they are."""
        if self._method.rows.endswith("of the prompt") and not step.is_start:
            return "nothing"
        return None if self._has_at_call and self.see_row is None else self._method.stage

    def _see_row(self, layer: int, scores: Tensor, step: ForwardPass) -> None:
        keys = self._row_keys(layer, scores, step)
        self._row = keys.having(seen=self._method.at_row(scores, keys))

    def edit_row(self, layer: int, values: Tensor, step: ForwardPass) -> Tensor:
        """The change of the row."""
        return self._method.edit(values, self._row_keys(layer, values, step))

    def _row_keys(self, layer: int, values: Tensor, step: ForwardPass) -> Keys:
        if self._row is None:
            count = int(values.shape[-1])
            _, self._row = self._found(1, count, 0, count - 1, values.device, step)
        return self._row if self._row.layer == layer else self._row.having(layer=layer)

    def _found(
        self, queries: int, count: int, first: int, start: int, device: torch.device, step: ForwardPass
    ) -> tuple[Int[Tensor, " rows"], Keys]:
        """The rows acted on, and what the keys are: the same in all layers of a pass whose calls have this shape.

        first: position of the first key; start: of the first row.
        """
        places = self._places.at(step, device)
        # Every row behind the prompt is acted on, if any is: no look at the device is needed for that.
        is_step = step.is_decoding and step.offset >= step.layout.length
        if is_step:
            rows = torch.arange(queries, device=device)
            wanted = torch.ones((step.batch, queries), dtype=torch.bool, device=device)
        else:
            wanted = self._wanted(torch.arange(queries, device=device) + start, places.end, places.last)
            rows = wanted.any(0).nonzero()[:, 0]
        image, text, system, behind = (
            places.keys(which, first, count)[:, None, None]
            for which in (places.visual, places.text, places.system, places.behind)
        )
        keys = Keys(image, text, system, behind, wanted, 0, known=self._known, is_step=is_step)
        return rows, keys.having(shared=self._method.at_pass(keys))

    def _wanted(self, place: Tensor, end: Tensor, last: Tensor) -> Bool[Tensor, "batch queries"]:
        """Which rows of each sample: with padding on the right, ends stand at different places."""
        rows = self._method.rows
        if rows == "last of the prompt":
            return place == end[:, None]
        if rows == "last":
            return place >= end[:, None]
        if rows == "after the image":
            return place > last[:, None]
        return (place <= end[:, None]) & (last >= 0)[:, None]


def _changing(
    method: AttentionEdit, keys: Keys, rows: Int[Tensor, " rows"], is_whole: bool
) -> Callable[[Block], Float[Tensor, "batch heads rows keys"]]:
    """The change of a block. is_whole: all of its rows are acted on and see every key."""

    def change(block: Block) -> Tensor:
        values = block.values
        known = keys.having(head=block.head)
        if keys.seen is not None:
            known = known.having(rows=torch.searchsorted(rows, block.rows))
        if is_whole:
            return method.edit(values, known)
        mine = keys.acts[:, block.rows][:, None, :, None]
        if method.stage == "scores":
            visible = values.isfinite()
            mine = mine & visible
            values = values.masked_fill(~visible, 0.0)
        return torch.where(mine, method.edit(values, known), block.values)

    return change
