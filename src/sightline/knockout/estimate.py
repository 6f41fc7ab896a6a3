"""An estimate of causal impact at the price of one pass: what the cut does to a layer is exact, what follows is linear.

    effect of hiding J in layers C  ~  sum over l in C, heads h of  g_lh . (o_lh^(-J) - o_lh)        g = d y / d o_lh

o: the head's output at the row before the output projection; o^(-J) - o is exact (see `attention.knockout`), softmax
and all. y: the followed token's logit or log-probability. A cut changes the row alone, so that g needs one row of each
layer, run forward and back beside the keys and values of the prompt's pass: no graph of the prompt is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.gradients import frozen
from sightline.attention.knockout import Groups
from sightline.errors import ModelError
from sightline.knockout.answer import RowAnswer
from sightline.knockout.causal import cuts_of
from sightline.knockout.layer_pass import Shared
from sightline.knockout.rerun import Rerun

ESTIMATED = ("logit", "prob", "logprob")
"""Names of the estimated maps; KL and flips have no first order."""


def estimated_row(
    rerun: Rerun, groups: Sequence[Sequence[int]], layers: Sequence[int], window: int, answer: RowAnswer
) -> dict[str, Tensor]:
    """Maps of the captured row, [layers, groups] each, float32; NaN where a row sees nothing but the source."""
    slopes = _slopes(rerun, answer.token)
    attention_layers = [layer.index for layer in rerun.capture.layers if layer.row is not None]
    cuts = cuts_of(layers, window, attention_layers)
    needed = sorted({index for cut in cuts for index in cut.layers})
    local = {index: _local(rerun, index, groups, slopes[index]) for index in needed}
    maps = torch.full((2, len(layers), len(groups)), torch.nan, dtype=torch.float64)
    for cut in cuts:
        maps[:, cut.place] = torch.stack([local[index] for index in cut.layers]).sum(0)
    logit, logprob = maps.float()
    return dict(zip(ESTIMATED, (logit, logprob * answer.baseline()["prob"], logprob), strict=True))


def _local(
    rerun: Rerun, index: int, groups: Sequence[Sequence[int]], slopes: Float[Tensor, "followed heads width"]
) -> Float[Tensor, "followed groups"]:
    """The terms of one layer; NaN for a source without which the row sees nothing."""
    row = rerun.layer(index).row
    if row is None:
        raise ModelError(f"Layer {index} attends where it was not seen to.")
    every = Groups.of(groups, row.key.device)
    size = max(1, rerun.rows_at_once(index))
    parts = []
    for start in range(0, len(groups), size):
        hidden = every.hidden(torch.arange(start, min(len(groups), start + size), device=row.key.device))
        terms = torch.einsum("vhw,fhw->fv", row.changes(hidden), slopes)
        parts.append(terms.masked_fill(row.is_blind(hidden), torch.nan).double().cpu())
    return torch.cat(parts, 1)


def _slopes(rerun: Rerun, token: int) -> dict[int, Float[Tensor, "followed heads width"]]:
    """By layer, the gradients of the token's logit and log-probability by what the heads put out at the row."""
    shared: Shared = {}
    added: dict[int, Tensor] = {}
    with frozen(rerun.anatomy), torch.enable_grad():
        hidden = rerun.layer(0).hidden.detach()
        for layer in rerun.capture.layers:
            attend = _Attend(rerun, layer.index, added)
            hidden = rerun.run(layer.index, hidden, attend, shared)
            if layer.added is not None:
                hidden = hidden + layer.added
        logits = rerun.logits(hidden)[0].float()
        followed = (logits[token], logits.log_softmax(0)[token])
        try:
            found = [torch.autograd.grad(each, list(added.values()), retain_graph=True) for each in followed]
        except RuntimeError as error:
            if "inplace" not in str(error):
                raise
            kind = type(rerun.anatomy.model).__name__
            raise ModelError(
                f"A layer of {kind} changes its state in place, so it has no gradient: leave the estimate out."
            ) from error
    return {index: torch.stack(each) for index, each in zip(added, zip(*found, strict=True), strict=True)}


@dataclass(frozen=True)
class _Attend:
    """The row's own attention in one layer, with an addend of zero, by which the gradient is taken."""

    rerun: Rerun
    index: int
    added: dict[int, Tensor] = field(repr=False)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, part: slice) -> Tensor:
        row = self.rerun.layer(self.index).row
        if row is None:
            raise ModelError(f"Layer {self.index} attends where it was not seen to.")
        output = row.replaced(query, key, value)
        self.added[self.index] = torch.zeros_like(output[0], requires_grad=True)
        return output + self.added[self.index]
