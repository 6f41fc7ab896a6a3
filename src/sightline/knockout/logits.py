"""The logits of one row, and the token of them that is followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.attention.hooks import BeforeHook, Hooks
from sightline.errors import InputError, ModelError
from sightline.knockout.answer import EFFECTS, RowAnswer
from sightline.models.anatomy import Anatomy
from sightline.models.logits import plain_pass


def row_logits(anatomy: Anatomy, inputs: Mapping[str, Any], row: int = -1) -> Float[Tensor, "batch words"]:
    """The logits of one row of each sample, float32 on the CPU; the head computes no other row.

    Raises:
        ModelError: for a model whose forward gives no logits.
    """
    with Hooks(anatomy, in_bypassed=True) as hooks, torch.no_grad():
        if anatomy.head is not None:
            hooks.before(anatomy.head, _only(row))
        output = plain_pass(anatomy.model, inputs, every=True)
    logits = getattr(output, "logits", None)
    if logits is None:
        raise ModelError(
            f"{type(anatomy.model).__name__} gives no logits, so the effect on its answer cannot be read: load it as a "
            "model that writes text."
        )
    return logits[:, -1 if logits.shape[1] == 1 else row].float().cpu()  # type: ignore[no-any-return]


def _only(row: int) -> BeforeHook:
    def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden, *others = args
        place = slice(row, row + 1 or None)
        return ((hidden[:, place], *others) if hidden.dim() == 3 else args), kwargs

    return keep


def answer_of(logits: Float[Tensor, " words"], target: str | int) -> RowAnswer:
    """The untouched answer. target: the token to follow, "predicted" or an id; InputError for another."""
    follow = followed(target)
    if follow is not None and not 0 <= follow < len(logits):
        raise InputError(f"There is no token {follow} in a vocabulary of {len(logits)}.")
    return RowAnswer.of(logits, follow)


def effect_rows(answer: RowAnswer, logits: Float[Tensor, "variants words"]) -> Float[Tensor, "variants measures"]:
    """The effects of some variants, a column a measure of `EFFECTS`: what is kept of logits, which are large."""
    found = answer.effects(logits)
    return torch.stack([found[name] for name in EFFECTS], 1)


def effect_maps(rows: Float[Tensor, "variants measures"], *shape: int) -> dict[str, Tensor]:
    """By measure, the effects of all variants in the shape of a map."""
    return {name: rows[:, column].reshape(shape) for column, name in enumerate(EFFECTS)}


def followed(target: str | int) -> int | None:
    """The id of a target, None for "predicted"; InputError for anything else."""
    if target == "predicted":
        return None
    if not isinstance(target, int) or isinstance(target, bool):
        raise InputError(f"'{target}' is no target: give the id of a token, or predicted.")
    return target
