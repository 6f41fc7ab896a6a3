"""Whose attention is read: a named set of rows, positions of the prompt, or tokens chosen by a function.

A token of the prompt is queried by its own row, a generated token by the row that predicts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sightline.data.answer_words import is_content
from sightline.data.lexicon import coco_lexicon, shapes_lexicon
from sightline.errors import InputError
from sightline.knockout.words import pieces_of, word_positions
from sightline.models.layout import Modality, TokenLayout

Named = Literal["generated", "prompt", "all"]
QUERIES: tuple[str, ...] = get_args(Named)

Chosen = Callable[[TokenLayout, Int[Tensor, "batch tokens"]], Bool[Tensor, "batch tokens"]]
"""From the prompt's layout and the ids of the prompt and of what was generated so far: which tokens are queried."""

Queries = Named | tuple[int, ...] | Chosen


@dataclass(frozen=True)
class Words:
    """Chooses the tokens of some words of the answer; made by `words`.

    Attributes:
        wanted: "noun", "content", or the words themselves, in lower case.
        tokenizer: by which tokens are put together as words; a `VLM` brings its own.
    """

    wanted: str | tuple[str, ...]
    tokenizer: Any = None

    def __call__(self, layout: TokenLayout, tokens: Int[Tensor, "batch tokens"]) -> Bool[Tensor, "batch tokens"]:
        """The tokens of the answer that belong to such a word."""
        if self.tokenizer is None:
            raise InputError("words() needs a tokenizer to read a bare model's tokens: give tokenizer=.")
        chosen = torch.zeros(tokens.shape, dtype=torch.bool)
        for row, ids in enumerate(tokens[:, layout.prompt_length :].tolist()):
            pieces = pieces_of(ids, self.tokenizer)
            for places in word_positions(list(enumerate(pieces))):
                if self._is_wanted("".join(pieces[place].text for place in places)):
                    chosen[row, [layout.prompt_length + place for place in places]] = True
        return chosen

    def _is_wanted(self, word: str) -> bool:
        text = word.strip().lower()
        if self.wanted == "content":
            return is_content(text)
        if self.wanted == "noun":
            return bool(coco_lexicon().named(text) or text in _SHAPES)
        return text in self.wanted

    def __str__(self) -> str:
        return f"words {self.wanted if isinstance(self.wanted, str) else ', '.join(self.wanted)}"


_SHAPES = frozenset(word for name in shapes_lexicon().words for word in (name.split()[-1],))


def words(wanted: Literal["noun", "content"] | Sequence[str], tokenizer: Any = None) -> Words:
    """The rows that predict some words of the answer, as `Dominance(queries=words("noun"))`.

    Args:
        wanted: "noun": names of objects, those of COCO's 80 categories with their synonyms and of the bundled world;
            "content": all but function words; or a list of words.
        tokenizer: of a bare Transformers model; a `VLM` brings its own.

    Raises:
        InputError: for another word for a kind, and an empty list.
    """
    if isinstance(wanted, str):
        if wanted not in ("noun", "content"):
            raise InputError(f"There is no kind of words called {wanted!r}: give noun, content, or a list of words.")
        return Words(wanted, tokenizer)
    chosen = tuple(word.strip().lower() for word in wanted)
    if not chosen or not all(chosen):
        raise InputError("There is no word to look for: give a list of words.")
    return Words(chosen, tokenizer)


def check_queries(queries: Any) -> Any:
    """Queries as `Dominance` keeps them; InputError for what is none."""
    if callable(queries) or (isinstance(queries, str) and queries in QUERIES):
        return queries
    if isinstance(queries, Sequence) and not isinstance(queries, str):
        places = tuple(queries)
        if places and all(isinstance(place, int) and not isinstance(place, bool) for place in places):
            return places
    known = f"{', '.join(QUERIES[:-1])} or {QUERIES[-1]}, a list of positions, or a function of layout and tokens"
    raise InputError(f"There is no query set called {queries!r}; use {known}.")


def name_of(queries: Any) -> str:
    """As results call it."""
    if isinstance(queries, str):
        return queries
    if isinstance(queries, tuple):
        return f"positions {', '.join(map(str, queries))}"
    return str(queries) if isinstance(queries, Words) else getattr(queries, "__name__", type(queries).__name__)


def bound(queries: Any, model: Any) -> Any:
    """The queries with what they need of the model."""
    if isinstance(queries, Words) and queries.tokenizer is None:
        return Words(queries.wanted, getattr(model, "tokenizer", None))
    return queries


def prompt_rows(
    queries: Any, layout: TokenLayout, tokens: Int[Tensor, "batch tokens"] | None
) -> Bool[Tensor, "batch positions"]:
    """The query rows of a prompt; none for `generated`, whose rows are those of generation.

    Raises:
        InputError: for a position that the prompt has not, and where a function gives something else than it should.
    """
    if queries == "prompt":
        return layout.modality == int(Modality.TEXT)
    if queries == "all":
        return layout.modality != int(Modality.PADDING)
    rows = torch.zeros(layout.modality.shape, dtype=torch.bool)
    if queries == "generated":
        return rows
    if isinstance(queries, tuple):
        for sample, present in enumerate(layout.modality != int(Modality.PADDING)):
            own = present.nonzero()[:, 0]
            outside = [place for place in queries if not -len(own) <= place < len(own)]
            if outside:
                raise InputError(f"There is no position {outside[0]} in a prompt of {len(own)}.")
            rows[sample, own[list(queries)]] = True
        return rows
    return _chosen(queries, layout, tokens)[:, : layout.length] & (layout.modality != int(Modality.PADDING))


def generated_tokens(
    queries: Any, layout: TokenLayout, tokens: Int[Tensor, "batch tokens"] | None
) -> Bool[Tensor, "batch generated"] | None:
    """Which generated tokens are queried; None for all of them, as `generated` wants it, and for sets of the prompt."""
    if not callable(queries):
        return None
    return _chosen(queries, layout, tokens)[:, layout.prompt_length :]


def _chosen(queries: Chosen, layout: TokenLayout, tokens: Tensor | None) -> Tensor:
    if tokens is None:
        raise InputError("Queries chosen by a function need input_ids: give the model token ids, not embeddings.")
    found = queries(layout, tokens)
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != tokens.shape:
        shape = tuple(tokens.shape)
        raise InputError(f"{name_of(queries)} must return a bool tensor of shape {shape}, one value a token.")
    return found.cpu()
