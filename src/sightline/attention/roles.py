"""What can be attached to a model: who reads its attention, who changes it, who leaves positions out."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from sightline.attention.call import AttentionCall
from sightline.attention.edits import Edit, EditedCall
from sightline.attention.passes import ForwardPass
from sightline.attention.token_subset import TokenSubset


class Reader(Protocol):
    """Looks at attention while the model runs."""

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Layer `layer` computes its attention; edits that are in force are part of `attention`."""

    def end(self, step: ForwardPass) -> None:
        """The forward pass is over."""


class Editor(Protocol):
    """Changes attention while the model runs."""

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """What to change in this call; None where nothing changes, and the model's own kernel is then left alone."""


@runtime_checkable
class RowEditor(Protocol):
    """An editor that can do without the call at a decoding step, where its one row sees every key.

    With a `see_row`, as `edit_row`, it is shown the row's scores before any edit. With a `changes_last(step)` that
    says that of this prompt it changes the last row alone, that row is one too.
    """

    def row_stage(self, layer: int, step: ForwardPass) -> Literal["scores", "weights", "nothing"] | None:
        """What of the rows it changes, decided at the first one of a prompt; None where it needs the call."""

    def edit_row(self, layer: int, values: Tensor, step: ForwardPass) -> Tensor:
        """The row's new scores or weights, [batch, heads, 1, keys]."""


class PromptPruner(Protocol):
    """Leaves positions of the prompt out before the decoder runs; readers and editors are shown the shorter prompt."""

    def at_model(self, step: ForwardPass, inputs: dict[str, Any]) -> dict[str, Any]:
        """The model is entered: what its forward should be given instead of `inputs`."""

    def at_decoder(self, step: ForwardPass, inputs: dict[str, Any]) -> tuple[ForwardPass, dict[str, Any]]:
        """The decoder is entered: the step with the layout that is left, and what its forward should be given."""


class LayerPruner(Reader, Protocol):
    """Reads attention, and drops positions between layers; other readers and editors are shown the whole sequence."""

    def subset(self, layer: int) -> TokenSubset | None:
        """Which positions this layer runs on in this pass; None for all."""
