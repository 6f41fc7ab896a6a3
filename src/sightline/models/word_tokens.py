"""The tokens of a word that a user asks about, and the sentences that refuse what is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sightline.errors import InputError
from sightline.models.anatomy import Anatomy


def word_list(words: Any) -> tuple[Any, ...]:
    """Words, or ids of tokens, as a tuple; a bare string or number is one of them."""
    return (words,) if isinstance(words, str) or hasattr(words, "__index__") else tuple(words)


def word_tokens(model: Any, word: str, instead: str = "the id of a token") -> list[int]:
    """The ids of a word with a space before it, without a token for the space alone, as some tokenizers put.

    instead: what to give where there is no tokenizer.

    Raises:
        InputError: without a tokenizer, for a word without letters, and for one that the tokenizer does not know.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise InputError(f"The word {word!r} needs a tokenizer: give a VLM, or {instead}.")
    if not isinstance(word, str) or not word.strip():
        raise InputError(f"{word!r} is no word: give a word that the model's tokenizer knows, or {instead}.")
    ids: list[int] = tokenizer(" " + word, add_special_tokens=False)["input_ids"]
    require_known(tokenizer, word, ids)
    blank = next((place for place, token in enumerate(ids) if tokenizer.decode([token]).strip()), 0)
    return ids[blank:]


def token_of(model: Any, word: str | int) -> int:
    """The id of a word's first token that has letters, with a space before it; an id is its own.

    Raises:
        InputError: as `word_tokens`.
    """
    return int(word) if hasattr(word, "__index__") else word_tokens(model, word)[0]


def require_known(tokenizer: Any, word: str, ids: Sequence[int]) -> None:
    """InputError where a word has no token, or only the one that stands for all that is unknown."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if not ids or (unknown is not None and unknown in ids):
        raise InputError(f"The model's tokenizer does not know the word {word!r}: give one that it knows.")


def require_tokens(name: str, anatomy: Anatomy, ids: Iterable[int]) -> None:
    """InputError for the id of a token that the model has not."""
    model: Any = anatomy.model
    size = int(model.get_input_embeddings().weight.shape[0])
    wrong = next((token for token in ids if not 0 <= token < size), None)
    if wrong is not None:
        raise InputError(f"Token {wrong} in {name} is out of range: the model has tokens 0 to {size - 1}.")
