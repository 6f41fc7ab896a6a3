"""Backward passes through a model that learns nothing: gradients of what runs, not of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from sightline.models.anatomy import Anatomy


@contextmanager
def frozen(anatomy: Anatomy) -> Iterator[None]:
    """Inside, parameters need no gradients: those of activations alone are kept."""
    parameters = [(value, value.requires_grad) for value in anatomy.model.parameters()]
    try:
        for value, _ in parameters:
            value.requires_grad_(False)
        yield
    finally:
        for value, needs in parameters:
            value.requires_grad_(needs)


def followed_back(output: Tensor) -> Tensor:
    """The output as one that has a gradient: the first in a pass is where the graph begins."""
    return output if output.requires_grad else output.detach().requires_grad_()
