"""Exact attention mass per group of keys for every query row, at the speed of the model's own kernel.

Attention over values that are indicators, v_jg = 1 where key j is in group g, returns the mass of each group:

    sum_j w_ij v_jg = mass_ig

So one more call of the kernel that the model uses anyway, with the mask it uses anyway, gives all groups of all rows:
any mask, any scattering of the groups, no square. Its cost is one attention call; its precision that of the kernel
(float32: about 1e-7; bfloat16: the weights are rounded as they are in the model's own output).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.call import AttentionCall
from sightline.attention.weights import row_mass
from sightline.memory import block_bytes


def group_mass(
    call: AttentionCall, membership: Float[Tensor, "batch keys groups"]
) -> Float[Tensor, "batch heads queries groups"]:
    """Attention mass of each group of keys, for all query rows.

    membership: 1 where the key belongs to the group (groups may overlap; fractions weigh). Returns float32.
    A model on the eager implementation builds its square itself; ours is then computed by blocks of rows instead.
    """
    if call.implementation == "eager":
        return row_mass(call, torch.arange(call.queries, device=call.query.device), membership)
    width, groups = int(call.value.shape[-1]), int(membership.shape[-1])
    parts = [_indicated(call, membership[..., start : start + width]) for start in range(0, groups, width)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _indicated(call: AttentionCall, membership: Tensor) -> Tensor:
    batch, kv_heads, length, width = call.value.shape
    groups = int(membership.shape[-1])
    # One plane shared by all heads: the kernel wants values as wide as the model's, which then cost no memory per head.
    plane = call.value.new_zeros((batch, 1, length, width))
    plane[:, 0, : call.keys, :groups] = membership.to(plane.device, plane.dtype)
    row_bytes = batch * call.group_size * call.queries * width * plane.element_size()
    heads_at_once = kv_heads if _has_odd_options(call) else max(1, min(kv_heads, block_bytes() // max(1, row_bytes)))
    parts = []
    for head in range(0, kv_heads, heads_at_once):
        stop = min(kv_heads, head + heads_at_once)
        output = call.slice_heads(head, stop).run(plane.expand(batch, stop - head, length, width))
        parts.append(output[..., :groups].float())
    mass = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
    return _without_blind_rows(mass.transpose(1, 2))


def _has_odd_options(call: AttentionCall) -> bool:
    """A kernel that reads learned sinks or its heads from the module cannot be given some of the heads."""
    return call.options.get("s_aux") is not None or hasattr(call.mask, "mask_mod")


def _without_blind_rows(mass: Tensor) -> Tensor:
    """Rows of padding see no key: kernels answer NaN or 0 there, we answer 0."""
    return torch.nan_to_num(mass, nan=0.0)
