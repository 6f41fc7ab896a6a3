"""Maps of impact, layer by source: what one row of a prompt would be without some of the keys it reads.

A source is a group of positions that are hidden together. `local_maps` hides it from one layer and compares that
layer's output; `causal_maps` hides it in one layer, or a window of layers, and compares the model's answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sightline.errors import InputError
from sightline.knockout.reader import local_every_row, read_row

if TYPE_CHECKING:
    from torch import Tensor

    from sightline.attention.passes import LayoutSource

Group = tuple[int, ...]
"""Positions of the prompt that are hidden together, padding counted."""


def local_maps(
    model: Any,
    inputs: Mapping[str, Any],
    layout: LayoutSource | None,
    groups: Sequence[Group],
    rows: Literal["last", "all"] | int = "last",
    layers: Sequence[int] | None = None,
    per_head: bool = False,
) -> dict[str, Tensor]:
    """How far each layer's output at a row moves when a source is hidden from that layer's attention alone.

    Args:
        model: a `VLM`, an `Anatomy` or a bare Transformers model.
        inputs: of one prompt, as the model's forward takes them.
        layout: of the prompt; None derives it from the inputs.
        groups: the sources.
        rows: the row that predicts the next token, another position, or all that are not padding.
        layers: which, in any order; by default all.
        per_head: add the distance of each head's output before the output projection.

    Returns:
        On the CPU in float32: "l2", "cosine" [layers, groups], with per_head "l2_heads" [layers, heads, groups]; with
        rows="all" an axis of positions stands before the groups. NaN where a row sees nothing but the source, where a
        layer has no softmax attention, and with rows="all" where a row is padding or comes before the source.

    Raises:
        InputError: for an empty selection, a source after the row, in padding or out of the prompt, a layer that is not
            there, and more than one prompt.
        ModelError: when the model's attention can't be reached.
    """
    if rows == "all":
        return local_every_row(model, inputs, groups, layers, per_head)
    with read_row(model, inputs, rows) as reader:
        return reader.local(groups, layers, per_head)


def causal_maps(
    model: Any,
    inputs: Mapping[str, Any],
    layout: LayoutSource | None,
    groups: Sequence[Group],
    row: Literal["last"] | int = "last",
    layers: Sequence[int] | None = None,
    window: int = 1,
    scope: Literal["row", "every-row"] = "row",
    target: Literal["predicted"] | int = "predicted",
) -> dict[str, Any]:
    """How the model's answer at a row changes when a source is hidden in a window of layers around each layer.

    Args:
        window: layers that hide the source, centred on each of `layers` and cut off at both ends.
        scope: "row" hides the source from the row alone; "every-row" from all rows after it, in whole passes (slow).
        target: the token whose logit and probability are followed; by default the one that the model predicts.

    Returns:
        On the CPU in float32, [layers, groups] each, the hidden run minus the untouched: "logit", "prob", "logprob";
        "kl", of the untouched answer from the hidden one, in nats; "flip", 1 where another token is predicted, else 0.
        NaN where a row sees nothing but the source. And "baseline": {"token", "logit", "prob", "logprob"}, untouched.

    Raises: as `local_maps`; also ModelError for a model that gives no logits.
    """
    if target != "predicted" and (not isinstance(target, int) or isinstance(target, bool)):
        raise InputError(f"'{target}' is no target: give the id of a token, or predicted.")
    follow = None if target == "predicted" else int(target)
    with read_row(model, inputs, row) as reader:
        maps: dict[str, Any] = dict(reader.causal(groups, layers, window, scope, follow))
        return maps | {"baseline": reader.baseline(follow)}
