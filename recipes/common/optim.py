"""Muon for the matrices inside the language model, AdamW for everything else.

Muon (https://kellerjordan.github.io/posts/muon/) orthogonalises each matrix's momentum. Matrices of one shape are
stacked, so that a step costs a handful of batched products rather than thousands of small ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz: (n, rows, columns) to the nearest semi-orthogonal matrices, roughly."""
    a, b, c = 3.4445, -4.7750, 2.0315
    flip = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if flip else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if flip else x


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum whose update is orthogonalised, scaled so that AdamW's learning rate range fits."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.01, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix."""
        for group in self.param_groups:
            stacks: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    stacks[parameter.shape].append(parameter)
            for shape, members in stacks.items():
                updates = []
                for parameter in members:
                    state = self.state[parameter]
                    momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                    momentum.lerp_(parameter.grad, 1 - group["momentum"])
                    updates.append(parameter.grad.lerp(momentum, group["momentum"]))
                change = orthogonalise(torch.stack(updates)) * max(1.0, shape[0] / shape[1]) ** 0.5
                for parameter, update in zip(members, change, strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"])
                    parameter.add_(update, alpha=-group["lr"])
