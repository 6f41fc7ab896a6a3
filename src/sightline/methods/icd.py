"""ICD: instruction contrastive decoding (arXiv 2403.18715, Findings of ACL 2024; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, ModelError
from sightline.methods.base import register, setting
from sightline.methods.contrast import ContrastMethod, contrast
from sightline.methods.generating import check_least, check_share
from sightline.methods.scoring import VISUAL, prompt_layout, require_image
from sightline.methods.second_pass import Change, same_prompt
from sightline.models.anatomy import Anatomy
from sightline.models.word_tokens import require_tokens

ROLE = "You are a confused objects detector to provide a fuzzy overview or impression of the image."
"""The disturbing role of the paper that its public code runs."""


@register
@dataclass(frozen=True)
class ICD(ContrastMethod):
    """Contrasts with the answer to a disturbed instruction about the same image: what it too would say is prior.

        l' = (1 + alpha) l - alpha l_disturbed,     -inf where p < beta max p

    l, l_disturbed: [rows, vocabulary], log-probabilities. The disturbed prompt has `role` put behind the image's last
    token, before the instruction; in a prompt without an image it stands behind the first token. The second pass
    runs the untouched model. It acts in `generate`. alpha = 0 changes nothing.

    The paper's code gives the role to the Q-Former alone (of InstructBLIP and MiniGPT-4, which are not followed here),
    and LLaVA as its system prompt; the place behind the image is that of the code of SID and others, and fits every
    chat template. alpha is 1 in its commands. Controls: `cut_off:beta=0.1`; a harmless `role`; `yes_bias` for questions
    of yes and no.
    """

    name: ClassVar[str] = "icd"
    alpha: float = setting(1.0, "weight of the contrast, 0 (none) or more")
    beta: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")
    role: str = setting(ROLE, "the disturbing words; commas can't stand in a spec")
    tokens: tuple[int, ...] | None = setting(None, "ids of the role's tokens, for a bare model without a tokenizer")

    def __post_init__(self) -> None:
        check_least(self.name, 0, alpha=self.alpha)
        check_share(self.name, beta=self.beta)

    @property
    def has_contrast(self) -> bool:
        """Whether the disturbed prompt counts."""
        return bool(self.alpha)

    def change(self, anatomy: Anatomy, model: Any, layout: LayoutSource | None, given: Mapping[str, Any]) -> Change:
        """The prompt with the role in it."""
        prompt = prompt_layout(anatomy, layout, given)
        require_image(self.name, prompt)
        length = prompt.length
        place = torch.where(prompt.mask(*VISUAL), torch.arange(length), -1).amax(1) + 1
        first = (prompt.mask(*VISUAL).any(1), _first_present(given["input_ids"], given.get("attention_mask")) + 1)
        ids = self._ids(model)
        require_tokens(self.name, anatomy, ids)
        return Inserted(self.name, anatomy, given, torch.tensor(ids), torch.where(first[0], place, first[1]))

    def combine(
        self, first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above."""
        return contrast(first, second, self.alpha, self.beta)

    def _ids(self, model: Any) -> list[int]:
        if self.tokens is not None:
            return list(self.tokens)
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise InputError("icd needs a tokenizer for its role: give a VLM, or the field tokens.")
        ids: list[int] = tokenizer(self.role + " ", add_special_tokens=False)["input_ids"]
        return ids


def _first_present(ids: Tensor, mask: Tensor | None) -> Int[Tensor, " batch"]:
    return torch.zeros(len(ids), dtype=torch.long) if mask is None else mask.cpu().long().argmax(1)


class Inserted:
    """The change (see `sightline.methods.second_pass`) that puts tokens into a prompt.

    What stands behind them moves on by their number, in every dimension of its position.
    """

    def __init__(
        self,
        name: str,
        anatomy: Anatomy,
        given: Mapping[str, Any],
        tokens: Int[Tensor, " added"],
        place: Int[Tensor, " batch"],
    ) -> None:
        self._name, self._anatomy, self._given, self._tokens, self._place = name, anatomy, given, tokens, place
        self.least_shared = int(place.max())

    def at_start(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The prompt with the tokens in it, and the images again where they were encoded ahead."""
        rest = same_prompt(self._anatomy, self._given, inputs)
        shape = inputs["input_ids"].shape
        changed = {
            name: self._with_tokens(name, value) if isinstance(value, Tensor) and value.shape[-2:] == shape else value
            for name, value in rest.items()
        }
        mask = rest.get("attention_mask")
        if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
            kind = type(self._anatomy.model).__name__
            raise ModelError(f"{self._name} can't put words into a prompt of {kind}, whose masks are made ahead.")
        return changed

    def at_step(self, inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
        """A generated token stands so much further on."""
        changed, added = dict(inputs), len(self._tokens)
        if isinstance(inputs.get("attention_mask"), Tensor):
            changed["attention_mask"] = self._moved_mask(inputs["attention_mask"], repeats)
        if isinstance(inputs.get("position_ids"), Tensor):
            changed["position_ids"] = inputs["position_ids"] + added
        return changed

    def _moved_mask(self, mask: Tensor, repeats: int) -> Tensor:
        return self._spliced(mask, 1, self._place.repeat_interleave(repeats).to(mask.device))

    def _with_tokens(self, name: str, value: Tensor) -> Tensor:
        place = self._place.to(value.device)
        if name == "position_ids":
            # Of the token that makes room, by dimension; the row above is [dimensions or 1, batch, length].
            whole = value if value.dim() == 3 else value[None]
            moved = torch.stack([self._positions(part, place) for part in whole])
            return moved if value.dim() == 3 else moved[0]
        if value.dim() != 2:
            return value
        if name == "input_ids":
            return self._spliced(value, self._tokens.to(value.device), place)
        return self._spliced(value, int(name == "attention_mask"), place)

    def _positions(self, value: Int[Tensor, "batch length"], place: Int[Tensor, " batch"]) -> Tensor:
        added = len(self._tokens)
        value = value.expand(len(place), -1)
        start = value.gather(1, place.clamp(max=value.shape[1] - 1)[:, None])
        behind = torch.arange(value.shape[1], device=value.device) >= place[:, None]
        room = self._spliced(value + behind * added, 0, place)
        new = start + torch.arange(added, device=value.device)
        return room.scatter(1, place[:, None] + torch.arange(added, device=value.device), new)

    def _spliced(self, value: Tensor, filling: Tensor | int, place: Int[Tensor, " batch"]) -> Tensor:
        added, length = len(self._tokens), value.shape[1]
        index = torch.arange(length, device=value.device)
        moved = index + (index >= place[:, None]) * added
        room = value.new_zeros((len(value), length + added)).scatter(1, moved, value)
        new = torch.as_tensor(filling, dtype=value.dtype, device=value.device).expand(len(value), added)
        return room.scatter(1, place[:, None] + torch.arange(added, device=value.device), new)
