"""The plain twin of a pruned model: nothing is dropped, but nobody sees it."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass


class Hide:
    """From layer `first` on, no row sees the keys that are `hidden` [batch, prompt]."""

    def __init__(self, hidden: Tensor, first: int) -> None:
        self.hidden, self.first = hidden, first

    def begin(self, step: ForwardPass) -> None: ...

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        if layer < self.first:
            return None
        hidden = torch.nn.functional.pad(self.hidden, (0, call.keys - self.hidden.shape[1]))

        def hide(block: Block) -> Tensor:
            # A dropped row is read by nobody: it may go on seeing what it likes.
            seen = block.values.masked_fill(hidden[:, None, None], float("-inf"))
            return torch.where(seen.isfinite().any(-1, keepdim=True), seen, block.values)

        return Edit(torch.arange(call.queries), scores=hide)
