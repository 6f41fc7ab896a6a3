"""What the live page does with a model: answer while one watches, map every word, and cut what one points at."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from threading import Event
from typing import Any

import torch
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach
from sightline.errors import InputError, ModelError
from sightline.jobs.sample_maps import keeping_maps
from sightline.live.methods import describe_methods
from sightline.live.question import Cut, Question
from sightline.methods.hidden import unembed
from sightline.methods.registry import find_method
from sightline.models.layout import TokenLayout
from sightline.models.logits import last_logits
from sightline.models.transformers_api import LogitsProcessorList
from sightline.models.vlm import VLM
from sightline.pages.page_maps import attention_maps
from sightline.pages.pictures import thumbnails

RUNNERS_UP = 5
"""Tokens named beside the one that was written."""

KEPT_ANSWERS = 32
"""Answers that can still be looked at and cut; the oldest goes first."""

SIDE = 768
"""Longest side of the pictures that are sent back, in pixels."""

MAP_BYTES = 4_000_000
"""Of the maps of one answer."""

OnText = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """An answer and what is needed to look into it: its encoded inputs, new tokens and their log-probabilities."""

    name: str
    question: Question
    inputs: Any
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    document: dict[str, Any]


class Engine:
    """One model, used by one thread at a time."""

    def __init__(self, vlm: VLM) -> None:
        self.vlm = vlm
        self.answers: OrderedDict[str, Answer] = OrderedDict()
        self._numbers = count(1)

    def methods(self) -> list[dict[str, Any]]:
        """The methods that can be switched on, with their fields."""
        return describe_methods()

    def ask(self, question: Question, on_text: OnText, stop: Event) -> dict[str, Any]:
        """Answer a question; `on_text` is given each new piece of the answer, `stop` ends it early.

        Returns the answer's document: name, text, words with probabilities and runners-up, maps, pictures, seconds.
        """
        vlm, started = self.vlm, time.perf_counter()
        sample, method = question.sample(), find_method(question.method)
        inputs = vlm.encode(sample, allow_text_only=True)
        seen = _Seen(vlm, on_text, stop)
        with ExitStack() as stack:
            if method is not None:
                stack.enter_context(method.on(vlm))
            keep = stack.enter_context(keeping_maps(vlm, [sample], inputs))
            options = {"logits_processor": LogitsProcessorList([seen]), "stopping_criteria": [seen.stopped]}
            (tokens,) = vlm.generate_tokens(inputs, question.new_tokens, streamer=seen, **options)
            kept = keep([tokens])[0]
        name, maps = f"a{next(self._numbers)}", attention_maps(kept, MAP_BYTES)
        document = {
            "name": name,
            "text": vlm.tokenizer.decode(tokens, skip_special_tokens=True).strip(),
            "method": question.method,
            "view": question.view,
            "words": seen.words(tokens)[: len(kept["words"])],
            "maps": maps,
            "columns": columns_of(maps, kept["positions"], vlm.layout(inputs)),
            "images": thumbnails(sample.load_images(), SIDE),
            "seconds": round(time.perf_counter() - started, 3),
        }
        logs = tuple(float(step[token]) for step, token in zip(seen.logs, tokens, strict=False))
        self.answers[name] = Answer(name, question, inputs, tuple(tokens), logs, document)
        while len(self.answers) > KEPT_ANSWERS:
            self.answers.popitem(last=False)
        return document

    def answer(self, name: str) -> Answer:
        """A kept answer; InputError where it is gone."""
        if name not in self.answers:
            raise InputError(f"The answer {name} is no longer kept: ask again.")
        return self.answers[name]

    def lens(self, name: str, position: int) -> dict[str, Any]:
        """The logit lens of one position of the prompt: the tokens that each layer's state is nearest to.

        softmax(W_U norm(h_k)) of the state h_k behind layer k (arXiv 2410.02762, 2410.07149 for image tokens).
        """
        answer, anatomy = self.answer(name), self.vlm.anatomy
        if not 0 <= position < int(answer.inputs["input_ids"].shape[1]):
            raise InputError(f"There is no position {position} in the prompt.")
        with torch.no_grad():
            output = anatomy.model(
                **answer.inputs, output_hidden_states=True, use_cache=False, **last_logits(anatomy.model)
            )
            states = getattr(output, "hidden_states", None)
            if states is None:
                raise ModelError(f"{type(anatomy.model).__name__} gives no hidden states to look at.")
            rows = torch.stack([state[0, position].to(states[-1].device) for state in states[:-1]])
            # The last of Transformers' states is behind the norm already.
            logits = [*unembed(anatomy, rows, True), *unembed(anatomy, states[-1][:1, position], False)]
        layers = []
        for layer, row in enumerate(logits):
            best = row.float().softmax(-1).topk(3)
            tokens = [self.vlm.tokenizer.decode([int(token)]) for token in best.indices]
            chances = [round(float(chance), 4) for chance in best.values]
            layers.append({"layer": layer, "tokens": [list(pair) for pair in zip(tokens, chances, strict=True)]})
        return {"name": name, "position": position, "layers": layers}

    def cut(self, name: str, cut: Cut) -> dict[str, Any]:
        """How much the log-probability of each of the answer's tokens changes when something is hidden (nats)."""
        answer = self.answer(name)
        anatomy, vlm = self.vlm.anatomy, self.vlm
        length = int(answer.inputs["input_ids"].shape[1])
        for position in cut.positions:
            if not 0 <= position < length:
                raise InputError(f"There is no position {position} in a prompt of {length}.")
        for layer, head in cut.heads:
            if not (0 <= layer < len(anatomy.layers) and 0 <= head < anatomy.num_heads):
                known = f"{len(anatomy.layers)} layers of {anatomy.num_heads} heads, counted from 0"
                raise InputError(f"There is no head {layer}.{head}: the model has {known}.")
        method, forced = find_method(answer.question.method), _Forced(answer.tokens)
        with ExitStack() as stack:
            if method is not None:
                stack.enter_context(method.on(vlm))
            stack.enter_context(attach(anatomy, editor=_Cutter(cut), layout=vlm.layout))
            vlm.generate_tokens(answer.inputs, len(answer.tokens), logits_processor=LogitsProcessorList([forced]))
        changes = [now - before for now, before in zip(forced.logs, answer.log_probabilities, strict=False)]
        total = round(math.fsum(changes), 4)
        return {"name": name, "changes": [round(change, 4) for change in changes], "total": total}


def columns_of(maps: Mapping[str, Any], text: Sequence[int], layout: TokenLayout) -> list[list[int]]:
    """The positions of the prompt behind each column of a page's maps: a word's one, those of a patch or of several."""
    columns: list[list[int]] = [[position] for position in text]
    for shown, grid in zip(maps["grids"], layout.grids[0], strict=False):
        cells, side = shown["cells"], shown["pooled"]
        for row, line in enumerate(grid.positions.tolist()):
            for column, position in enumerate(line):
                if position < 0:
                    continue
                cell = row // side * shown["cols"] + column // side
                place = cells[cell] if isinstance(cells, list) else cells + cell
                columns.extend([] for _ in range(place + 1 - len(columns)))
                columns[place].append(position)
    return columns


@dataclass
class _Seen:
    """Follows one `generate`: streams the text, keeps the log-probabilities of every step, and stops when asked to."""

    vlm: VLM
    on_text: OnText
    stop: Event
    logs: list[Tensor] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    shown: str = ""
    has_prompt: bool = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.logs.append(scores[0].float().log_softmax(-1).cpu())
        return scores

    def put(self, value: Tensor) -> None:
        """Called by `generate`: first with the prompt, then with each new token."""
        if not self.has_prompt:
            self.has_prompt = True
            return
        self.tokens.extend(value.reshape(-1).tolist())
        text = self.vlm.tokenizer.decode(self.tokens, skip_special_tokens=True).lstrip()
        if not text.endswith("\ufffd") and text.startswith(self.shown):  # half a character waits for its other half
            self.on_text(text[len(self.shown) :])
            self.shown = text

    def end(self) -> None:
        """Called by `generate` when it is done."""

    def stopped(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """The stopping criterion."""
        return torch.full((len(input_ids),), self.stop.is_set(), dtype=torch.bool, device=input_ids.device)

    def words(self, tokens: Sequence[int]) -> list[dict[str, Any]]:
        """Each token's probability and its runners-up."""
        return [self._word(token, logs) for token, logs in zip(tokens, self.logs, strict=False)]

    def _word(self, token: int, logs: Tensor) -> dict[str, Any]:
        best = logs.topk(min(RUNNERS_UP + 1, len(logs)))
        others = [(int(place), float(log)) for log, place in zip(*best, strict=True) if int(place) != token]
        return {
            "probability": round(math.exp(float(logs[token])), 6),
            "runners": [
                [self.vlm.tokenizer.decode([place]), round(math.exp(log), 6)] for place, log in others[:RUNNERS_UP]
            ],
        }


@dataclass
class _Forced:
    """Logits processor that has `generate` write given tokens and notes their log-probabilities."""

    tokens: tuple[int, ...]
    logs: list[float] = field(default_factory=list)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        token = self.tokens[len(self.logs)]
        self.logs.append(float(scores[0].float().log_softmax(-1)[token]))
        forced = torch.full_like(scores, -math.inf)
        forced[:, token] = 0
        return forced


class _Cutter:
    """The editor (see `sightline.attention.attach`) behind `Engine.cut`."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """Hide the positions from every other row; silence the heads of this layer."""
        heads = [head for at, head in self._cut.heads if at == layer]
        if not self._cut.positions and not heads:
            return None
        device = call.query.device
        keys = torch.zeros(call.keys, dtype=torch.bool, device=device)
        places = torch.tensor(self._cut.positions, dtype=torch.long, device=device) - call.first_key
        keys[places[(places >= 0) & (places < call.keys)]] = True
        rows = torch.arange(call.queries, device=device)

        def hidden(block: Block) -> Tensor:
            own = (block.rows[:, None] + call.offset - call.first_key) == torch.arange(call.keys, device=device)
            return block.values.masked_fill(keys & ~own, -math.inf)

        def silenced(block: Block) -> Tensor:
            values = block.values.clone()
            for head in heads:
                if block.head <= head < block.head + values.shape[1]:
                    values[:, head - block.head] = 0
            return values

        return Edit(rows, scores=hidden if self._cut.positions else None, weights=silenced if heads else None)
