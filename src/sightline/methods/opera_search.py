"""The search of OPERA over one answer's words (arXiv 2311.17911): candidates, ends, and going back."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.errors import InputError

_LARGEST = 1e300
"""Products stop here, so that none becomes infinite and, times 0, not a number."""


class WordReader(Protocol):
    """Runs words behind a prompt on a cache that has a row for each beam."""

    prompt: Int[Tensor, " positions"]

    def restart(self, beams: int) -> None:
        """The cache of the prompt alone, for so many beams."""

    def keep(self, beams: Int[Tensor, " kept"]) -> None:
        """The cache of some of its rows, in this order; a row may be named again."""

    def run(
        self, words: Int[Tensor, "rows words"]
    ) -> tuple[Float[Tensor, "rows vocabulary"], Float[Tensor, "rows words"], Float[Tensor, " rows"]]:
        """Behind each row's last word: the logits, and its attention to the generated words and to the image."""


@dataclass(frozen=True)
class WordEnds:
    """When a beam is over, and what its score counts for."""

    criteria: Any
    length_penalty: float
    early: bool

    @classmethod
    def of(cls, config: Any, criteria: Any) -> WordEnds:
        """As a generation configuration says.

        Raises:
            InputError: for `early_stopping` that is neither True nor False.
        """
        penalty, early = getattr(config, "length_penalty", None), getattr(config, "early_stopping", None)
        if early not in (None, True, False):
            raise InputError(f"early_stopping is {early!r} in opera: give True or False.")
        return cls(criteria, 1.0 if penalty is None else float(penalty), bool(early))

    def value(self, score: float, words: int) -> float:
        """A score by its length."""
        return float(score / words**self.length_penalty)


@dataclass(frozen=True)
class _Stand:
    """How the beams stood. parents: the beam before, of each; done: ended answers with their values, best first."""

    words: Int[Tensor, "beams words"]
    scores: Float[Tensor, " beams"]
    parents: Int[Tensor, " beams"]
    done: tuple[tuple[float, Tensor], ...] = ()


@dataclass
class _Live:
    """What runs on: the logits behind the beams' words, and the products of their columns, [beams, words]."""

    logits: Float[Tensor, "beams vocabulary"]
    products: Float[Tensor, "beams words"]


@dataclass
class OperaSearch:
    """One answer's search. method: the OPERA of it; first: the logits behind the prompt."""

    method: Any
    reader: WordReader
    first: Float[Tensor, "1 vocabulary"]
    processors: Any
    ends: WordEnds
    _stands: list[_Stand] = field(default_factory=list)
    _places: list[Int[Tensor, " beams"]] = field(default_factory=list)
    _rejected: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _times: Counter[int] = field(default_factory=Counter)

    def answer(self) -> Int[Tensor, " words"]:
        """The words of the answer."""
        none = self.reader.prompt.new_zeros((1, 0))
        self._stands = [_Stand(none, torch.zeros(1), torch.zeros(1, dtype=torch.long))]
        live = _Live(self.first, torch.zeros(1, 0, dtype=torch.float64))
        while True:
            going, live = self._step(live)
            stand = self._stands[-1]
            if not len(going) or self._is_over(stand):
                return stand.done[0][1]

    def _step(self, live: _Live) -> tuple[Tensor, _Live]:
        """One word more."""
        method, stand = self.method, self._stands[-1]
        beams = len(stand.words)
        scores = self._log_probabilities(live, stand)
        count = min(method.candidates, scores.shape[-1])
        found = scores.topk(count, -1)
        parents = torch.arange(beams).repeat_interleave(count)
        words = torch.cat([stand.words[parents], found.indices.reshape(-1, 1)], 1)
        self.reader.keep(parents)
        logits, row, image = self.reader.run(words)
        products = _grown(live.products[parents], row, method.sigma)
        phi, places = method.penalty(products, image.double())
        self._places.append(_filled(places.view(beams, count).mode(-1).values, method.beams))
        back = self._back(places.view(beams, count))
        if back is not None:
            return self._again(back)
        marked = found.values.cpu().double() - method.alpha * phi.view(beams, count)
        totals = stand.scores[parents] + marked.log_softmax(-1).reshape(-1).float()
        chosen, kept = self._sorted_out(words, totals, parents, stand)
        self._stands.append(chosen)
        self.reader.keep(kept)
        return kept, _Live(logits[kept.to(logits.device)], products[kept])

    def _log_probabilities(self, live: _Live, stand: _Stand) -> Float[Tensor, "beams vocabulary"]:
        whole = torch.cat([self.reader.prompt.expand(len(stand.words), -1), stand.words], 1)
        scores: Tensor = self.processors(whole, live.logits.log_softmax(-1))
        if bool((scores.amax(-1) == -math.inf).any()):
            raise InputError(
                f"No word may stand at place {stand.words.shape[1]} of the answer: a processor forbids all."
            )
        return scores

    def _sorted_out(
        self, words: Tensor, totals: Float[Tensor, " tried"], parents: Tensor, before: _Stand
    ) -> tuple[_Stand, Int[Tensor, " kept"]]:
        """The best that go on, and which they are; those that end are set aside if they are among the best."""
        size = self.method.beams
        order = totals.topk(min(2 * size, len(totals))).indices
        order = order[totals[order] > -math.inf]
        tried = words[order.to(words.device)]
        over = self.ends.criteria(torch.cat([self.reader.prompt.expand(len(tried), -1), tried], 1), None).tolist()
        values = [self.ends.value(float(totals[number]), words.shape[1]) for number in order]
        ended = [(value, row) for value, row, end in zip(values[:size], tried, over, strict=False) if end]
        done = sorted([*before.done, *ended], key=lambda pair: -pair[0])[:size]
        kept = order[[number for number, end in enumerate(over) if not end][:size]]
        return _Stand(words[kept.to(words.device)], totals[kept], parents[kept], tuple(done)), kept

    def _is_over(self, stand: _Stand) -> bool:
        """Whether enough have ended, and none that goes on can become better than they."""
        if len(stand.done) < self.method.beams:
            return False
        best = self.ends.value(float(stand.scores[0]), stand.words.shape[1])
        return self.ends.early or best <= stand.done[-1][0]

    def _back(self, places: Int[Tensor, "beams candidates"]) -> int | None:
        """How many words stay, where too many steps of every beam leaned on one word."""
        method = self.method
        place = int(places.mode(-1).values.mode().values)
        counts = (torch.stack(self._places) == place).sum(0)
        if not method.patience or not bool((counts > method.patience).all()) or place < method.early:
            return None
        # The words behind the place are another's, once it was gone back to often enough.
        for length in (place + 1, place):
            if self._times[length] < method.rollbacks:
                self._times[length] += 1
                return length if length + 1 < len(self._stands) else None
        return None

    def _again(self, length: int) -> tuple[Tensor, _Live]:
        """The step behind so many words is taken anew: among all words, by log p alone, without those taken before."""
        taken = self._stands[length + 1]
        pairs = zip(taken.parents.tolist(), taken.words[:, -1].tolist(), strict=True)
        # The public code keeps what it rejected further on, but for the very next word.
        self._rejected.setdefault(length, []).extend(pairs)
        self._rejected.pop(length + 1, None)
        del self._stands[length + 1 :], self._places[length + 1 :]
        stand = self._stands[-1]
        live = self._replayed(stand)
        scores = self._log_probabilities(live, stand).cpu()
        least = scores.amin(-1)
        for beam, word in self._rejected[length]:
            if beam < len(scores):
                scores[beam, word] = least[beam]
        vocabulary = scores.shape[-1]
        # What is left of a beam's words is a distribution again.
        totals = (stand.scores[:, None] + scores.log_softmax(-1)).reshape(-1)
        likely = totals.topk(min(2 * self.method.beams, len(totals))).indices
        parents, tokens = likely // vocabulary, (likely % vocabulary).to(stand.words.device)
        words = torch.cat([stand.words[parents.to(stand.words.device)], tokens[:, None]], 1)
        chosen, kept = self._sorted_out(words, totals[likely], parents, stand)
        self._stands.append(chosen)
        if not len(kept):
            return kept, live
        self.reader.keep(chosen.parents)
        logits, row, _ = self.reader.run(chosen.words)
        return kept, _Live(logits, _grown(live.products[chosen.parents], row, self.method.sigma))

    def _replayed(self, stand: _Stand) -> _Live:
        """The beams' words run anew, one by one, as a state that is carried along can't be cut."""
        beams, length = stand.words.shape
        self.reader.restart(beams)
        live = _Live(self.first.expand(beams, -1), torch.zeros(beams, 0, dtype=torch.float64))
        for count in range(1, length + 1):
            logits, row, _ = self.reader.run(stand.words[:, :count])
            live = _Live(logits, _grown(live.products, row, self.method.sigma))
        return live


def _grown(
    products: Float[Tensor, "rows words"], row: Float[Tensor, "rows longer"], sigma: float
) -> Float[Tensor, "rows longer"]:
    """The products of the columns with one row more."""
    one = torch.nn.functional.pad(products, (0, 1), value=1.0)
    return (one * (sigma * row.double())).clamp(max=_LARGEST)


def _filled(places: Int[Tensor, " beams"], size: int) -> Int[Tensor, " size"]:
    """Of each beam, where those that don't stand yet are the last one's copies."""
    return torch.cat([places, places[-1:].expand(size - len(places))])
