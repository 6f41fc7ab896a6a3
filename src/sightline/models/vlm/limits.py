"""How long a prompt may be: one rule for all that encodes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.text import shortened

if TYPE_CHECKING:
    from sightline.data.sample import Sample
    from sightline.models.anatomy import Anatomy

LONG_TOKEN = 128
"""Letters; longer tokens are hardly in any vocabulary."""


def most_positions(anatomy: Anatomy) -> int | None:
    """Positions that the decoder was made for, where its configuration says so."""
    most = getattr(anatomy.text_config, "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 else None


def refuse_endless_words(anatomy: Anatomy, tokenizer: Any, samples: Sequence[Sample]) -> None:
    """Looks at the words alone, before anything costly: those of a damaged file have no end.

    Raises:
        InputError: for words of more tokens than the model has positions.
    """
    most = most_positions(anatomy)
    for sample in samples:
        text = " ".join(turn.text for turn in sample.turns)
        if most is not None and _has_more_tokens(tokenizer, text, most):
            raise InputError(
                f"The prompt{_where(sample)} has words of more than {most:,} tokens, the most that the model reads: "
                "shorten it."
            )


def _has_more_tokens(tokenizer: Any, text: str, most: int) -> bool:
    if 4 * len(text) <= most:  # no letter is more than four tokens
        return False
    parts = (text[: most * LONG_TOKEN], text)  # of words without end the beginning is enough to know
    return any(len(tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]) > most for part in parts)


def refuse_too_long(anatomy: Anatomy, inputs: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """Looks at encoded prompts, images and all.

    Raises:
        InputError: for more positions than the model was made for: what it answers there means nothing.
    """
    most, ids = most_positions(anatomy), inputs.get("input_ids")
    if most is None or ids is None or ids.shape[1] <= most:
        return
    mask = inputs.get("attention_mask")
    lengths = [ids.shape[1]] * len(ids) if mask is None else mask.sum(1).tolist()
    for sample, length in zip(samples, lengths, strict=False):
        if length > most:
            raise InputError(
                f"The prompt{_where(sample)} takes {length:,} positions, and {most:,} is the most that the model reads:"
                " shorten it, or give fewer or smaller images."
            )


def _where(sample: Sample) -> str:
    return f" of sample {shortened(repr(sample.id))}" if sample.id else ""
