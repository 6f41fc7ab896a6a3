"""A decoding step's one row, or a prompt's last, edited in a few operations: no blocks, no masks, no look-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.edits import leaving_hidden
from sightline.attention.passes import ForwardPass
from sightline.memory import block_bytes

RowSight = Callable[[int, Tensor, ForwardPass], None]
"""From a layer, the row's scores before any change, and the pass."""

RowChange = Callable[[int, Tensor, ForwardPass], Tensor]
"""From a layer, the row's scores or weights, [batch, heads, 1, keys], and the pass to their new values."""


def edited_row(
    layer: int,
    step: ForwardPass,
    sights: Sequence[RowSight],
    changes: tuple[Sequence[RowChange], Sequence[RowChange]],
    implementation: str,
    query: Float[Tensor, "batch heads 1 width"],
    key: Float[Tensor, "batch kv_heads keys width"],
    value: Float[Tensor, "batch kv_heads keys value_width"],
    mask: Any,
    options: Mapping[str, Any],
) -> Float[Tensor, "batch 1 heads value_width"] | None:
    """What the attention function returns, after changes of the scores and of the weights; in float32 inside.

    None where the row does not see just the keys there are, where more than queries and keys make its scores, or where
    all of it is more than a block.
    """
    batch, heads, _, width = query.shape
    kv_heads, keys = key.shape[1:3]
    if (
        mask is not None
        or keys != step.offset + step.length
        or "flash" in implementation
        or any(isinstance(each, Tensor) and not name.endswith("_ids") for name, each in options.items())
        or 8 * batch * heads * keys + 4 * batch * kv_heads * keys * width > block_bytes()
    ):
        return None
    scaling, softcap = options.get("scaling"), options.get("softcap")
    if value.dtype != torch.float32:
        query, key, each = query.float(), key.float(), value.float()
    else:
        each = value
    # Heads that share keys are rows of one product.
    rows, keyed = query.reshape(batch * kv_heads, -1, width), key.reshape(batch * kv_heads, keys, width)
    alpha = width**-0.5 if scaling is None else float(scaling)
    values = torch.baddbmm(query.new_empty(1), rows, keyed.transpose(1, 2), beta=0, alpha=alpha)
    values = values.view(batch, heads, 1, keys)
    if softcap is not None and implementation != "sdpa":
        values = torch.tanh(values / softcap) * softcap
    for see in sights:
        see(layer, values, step)
    for number, change in enumerate(changes[0]):
        if number:
            values = leaving_hidden(values, lambda shown, change=change: change(layer, shown, step))  # type: ignore[misc]
        else:
            values = change(layer, values, step)
    values = torch.softmax(values, -1)
    for change in changes[1]:
        values = change(layer, values, step)
    output = torch.bmm(values.reshape(batch * kv_heads, -1, keys), each.reshape(batch * kv_heads, keys, -1))
    return output.view(batch, 1, heads, -1).to(value.dtype)
