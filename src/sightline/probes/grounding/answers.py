"""Which generated token each score belongs to, also when beams trade places.

A forward pass shows neither the words before its token nor which of the beams wins. `generate` knows: behind
each pass a logits processor, which changes nothing, is shown the words so far of every row, and a score belongs to its
words.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sightline.attention import ForwardPass
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import LayoutError, SightlineError
from sightline.models.anatomy import Anatomy
from sightline.models.layout import TokenLayout, layout_of
from sightline.models.transformers_api.generation import LogitsProcessorList, given_to
from sightline.probes.grounding.image import VISUAL
from sightline.probes.grounding.values import TokenScore


@dataclass
class Step:
    """What was read in one decoding pass: scores [layers, rows] and patches [rows], from when they are computed on."""

    scores: Tensor = field(default_factory=lambda: torch.zeros(0))
    patches: Tensor = field(default_factory=lambda: torch.zeros(0))


@dataclass
class _Generation:
    """One call of `generate`.

    prompts: how many it was given. layout: as the passes were given it; given_layout: as `generate` was, which knows
    grids that it does not hand on. start: how many ids stood before the first generated one. steps: of each decoding
    pass. known: from a sample and its words so far to (step, row).
    """

    prompts: int | None
    ends: frozenset[int]
    prompt_ids: Tensor | None
    is_beam: bool = False
    given_layout: TokenLayout | None = None
    start: int | None = None
    rows: int = 0
    layout: TokenLayout | None = None
    steps: list[Step] = field(default_factory=list)
    known: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = field(default_factory=dict)
    answers: list[list[int]] = field(default_factory=list)

    def sample_of(self, row: int) -> int:
        """Beams and copies of a prompt stand side by side."""
        return row // max(1, self.rows // self.prompts) if self.prompts else row

    def place(self, answer: int, tokens: list[int]) -> tuple[int, int] | None:
        """(step, row) in which the last of these tokens was read; None where it never was."""
        if not self.known and not self.is_beam and len(self.answers) == self.rows:
            # A `generate` that drops processors (Janus): its rows stay in their places.
            return (len(tokens) - 1, answer) if len(tokens) <= len(self.steps) else None
        copies = max(1, len(self.answers) // self.prompts) if self.prompts else 1
        return self.known.get((answer // copies, tuple(tokens)))

    @property
    def best_layout(self) -> TokenLayout | None:
        """The layout that knows most of the grids, as of the rows of a pass."""
        own, given = self.layout, self.given_layout
        if own is None or given is None or own.batch % given.batch:
            return own
        whole = given.repeated(own.batch // given.batch)
        # Where positions were dropped, the passes alone know where the others are. The last piece of a prompt that is
        # run in pieces may pass for a generated token.
        is_same = own.length <= whole.length and torch.equal(whole.modality[:, : own.length], own.modality)
        return whole if is_same else own


@dataclass(frozen=True)
class _Shown:
    """A logits processor that changes nothing."""

    show: Callable[[Tensor], None]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.show(input_ids)
        return scores


class Answers:
    """Keeps the scores of generated tokens until all is wanted."""

    def __init__(self, anatomy: Anatomy, tokenizer: Any, source: LayoutSource | None) -> None:
        self._anatomy, self._tokenizer, self._source = anatomy, tokenizer, source
        self._open: _Generation | None = None
        self._done: list[_Generation] = []
        self._last: ForwardPass | None = None
        self.is_widened = False
        """Whether tokens were run in more rows than the prompt's, as a method with beams of its own does."""

    @property
    def has_image(self) -> bool:
        """Whether `generate` is running on prompts that have one."""
        layout = None if self._open is None else self._open.given_layout
        return layout is not None and bool(layout.mask(*VISUAL).any())

    def take(self, step: ForwardPass, layout: TokenLayout | None) -> Step | None:
        """A forward pass is over; returns where to put what was read, if anybody asks for it."""
        call, self._last = self._open, step
        if call is None:
            return None
        if not step.is_decoding:
            call.layout, call.rows = layout, step.batch
            return None
        call.steps.append(Step())
        return call.steps[-1]

    def result(self) -> list[list[TokenScore]]:
        """By row that `generate` returned, its tokens up to the end."""
        if self.is_widened:
            raise SightlineError(
                "A method searched beams of its own, as OPERA does, and their words can't be scored: read the "
                "grounding of its answer by a plain forward pass over prompt and answer."
            )
        if not self._done:
            raise SightlineError("Nothing was generated inside the `with`: call generate there, or ask for scores().")
        return [row for call in self._done for row in self._rows(call)]

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Inside, the model's `generate` is noted."""
        with Hooks(self._anatomy) as hooks:
            if hasattr(self._anatomy.model, "generate"):
                hooks.shadow(self._anatomy.model, "generate", self._noted)
            yield

    def _noted(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(generate)
        def noted(*args: Any, **kwargs: Any) -> Any:
            given = given_to(generate, args, kwargs)
            call = self._opened(given)
            processors = LogitsProcessorList([*(given.get("logits_processor") or ()), _Shown(self._show)])
            outer, self._open = self._open, call
            try:
                output = generate(**given | {"logits_processor": processors})
            finally:
                self._open, self._last = outer, None
            call.answers = self._cut(call, getattr(output, "sequences", output))
            self._done.append(call)
            return output

        return noted

    def _opened(self, given: dict[str, Any]) -> _Generation:
        ids = next((given[name] for name in ("input_ids", "inputs") if given.get(name) is not None), None)
        first = ids if ids is not None else given.get("inputs_embeds")
        ends = given.get("eos_token_id")
        known = self._anatomy.eos_token_ids if ends is None else frozenset(torch.as_tensor(ends).flatten().tolist())
        is_beam = max(int(given.get(name) or 1) for name in ("num_beams", "num_beam_groups")) > 1
        return _Generation(None if first is None else len(first), known, ids, is_beam, self._given_layout(given))

    def _given_layout(self, given: dict[str, Any]) -> TokenLayout | None:
        if isinstance(self._source, TokenLayout):
            return self._source
        try:
            return layout_of(self._anatomy, given) if self._source is None else self._source(given)
        except LayoutError:  # the passes say what they need
            return None

    def _show(self, ids: Tensor) -> None:
        """Behind each pass, the ids of every row so far, [rows, count]."""
        call, last = self._open, self._last
        if call is None or last is None:
            return
        self._last = None
        if call.start is None or not last.is_decoding:
            call.start = int(ids.shape[1])
            return
        number = len(call.steps) - 1
        for row, words in enumerate(ids[:, call.start :].tolist()):
            call.known.setdefault((call.sample_of(row), tuple(words)), (number, row))

    def _cut(self, call: _Generation, sequences: Tensor) -> list[list[int]]:
        """The new tokens of each row, up to its end."""
        prompt = call.prompt_ids
        if prompt is not None and sequences.shape[1] >= prompt.shape[1] and len(sequences) % len(prompt) == 0:
            start = prompt.repeat_interleave(len(sequences) // len(prompt), 0).to(sequences.device)
            if torch.equal(sequences[:, : prompt.shape[1]], start):
                sequences = sequences[:, prompt.shape[1] :]
        rows: list[list[int]] = sequences.tolist()
        return [row[: next((place + 1 for place, token in enumerate(row) if token in call.ends), None)] for row in rows]

    def _rows(self, call: _Generation) -> Iterator[list[TokenScore]]:
        values = torch.stack([step.scores for step in call.steps]).cpu() if call.steps else torch.zeros(0, 1)
        patches = torch.stack([step.patches for step in call.steps]).tolist() if call.steps else []
        by_layer, means = values.tolist(), values.mean(1).tolist()
        grids: dict[int, dict[int, _Patch]] = {}
        for number, tokens in enumerate(call.answers):
            found = []
            for count, token in enumerate(tokens, 1):
                text = "" if self._tokenizer is None else str(self._tokenizer.decode([token]))
                place = call.place(number, tokens[:count])
                if place is None or patches[place[0]][place[1]] < 0:
                    found.append(TokenScore(token, text, None))
                    continue
                step, row = place
                if row not in grids:
                    grids[row] = _patches(call.best_layout, row)
                where = grids[row].get(patches[step][row], (patches[step][row], None, None, None))
                layers = tuple(layer[row] for layer in by_layer[step])
                found.append(TokenScore(token, text, means[step][row], layers, *where))
            yield found


_Patch = tuple[int, int | None, int | None, int | None]
"""Which patch of the sample it is; its grid, row and column."""


def _patches(layout: TokenLayout | None, row: int) -> dict[int, _Patch]:
    """By position in the sequence, the patches of a sample."""
    if layout is None:
        return {}
    places = layout.positions(row, *VISUAL).tolist()
    found: dict[int, _Patch] = {place: (patch, None, None, None) for patch, place in enumerate(places)}
    for number, grid in reversed(list(enumerate(layout.grids[row]))):
        for line, cells in enumerate(grid.positions.tolist()):
            for column, place in enumerate(cells):
                if place >= 0:
                    found[place] = (bisect_left(places, place), number, line, column)
    return found
