"""What the live page does with a model: answer while one watches, map every word, and cut what one points at."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from threading import Event
from typing import Any

import torch

from sightline.attention import attach
from sightline.errors import InputError, ModelError
from sightline.jobs.sample_maps import keeping_maps
from sightline.live.answer import LiveAnswer
from sightline.live.following import Cutter, Forced, OnText, Written
from sightline.live.keeping import report_of
from sightline.live.methods import describe_methods
from sightline.live.question import Cut, LiveQuestion
from sightline.methods.hidden import unembed
from sightline.methods.registry import find_method
from sightline.models.layout import TokenLayout
from sightline.models.logits import last_logits
from sightline.models.transformers_api.generation import LogitsProcessorList
from sightline.models.vlm import VLM
from sightline.pages.page_maps import attention_maps
from sightline.pages.pictures import thumbnails
from sightline.probes.sinks import Sinks

KEPT_ANSWERS = 32
"""Answers that can still be looked at and cut; the oldest goes first."""

SIDE = 768
"""Longest side of the pictures that are sent back, in pixels."""

MAP_BYTES = 4_000_000
"""Of the maps of one answer."""


class Engine:
    """One model, used by one thread at a time."""

    def __init__(self, vlm: VLM, sinks: Sinks | None = None) -> None:
        self.vlm = vlm
        self.sinks = sinks
        self.answers: OrderedDict[str, LiveAnswer] = OrderedDict()
        self._numbers = count(1)

    def methods(self) -> list[dict[str, Any]]:
        """The methods that can be switched on, with their fields."""
        return describe_methods(len(self.vlm.anatomy.layers), self.sinks)

    def ask(self, question: LiveQuestion, on_text: OnText, stop: Event) -> dict[str, Any]:
        """Answer a question; `on_text` is given each new piece of the answer, `stop` ends it early.

        Returns the answer's document: name, text, words with probabilities and runners-up, maps, pictures, seconds.
        """
        vlm, started = self.vlm, time.perf_counter()
        sample, method = question.sample(), find_method(question.method, self.sinks)
        inputs = vlm.encode(sample, allow_text_only=True)
        seen, images = Written(vlm, on_text, stop), thumbnails(sample.load_images(), SIDE)
        with ExitStack() as stack:
            if method is not None:
                stack.enter_context(method.on(vlm))
            keep = stack.enter_context(keeping_maps(vlm, [sample], inputs, [images], self.sinks))
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
            "columns": prompt_columns(maps, kept["positions"], vlm.layout(inputs)),
            "images": images,
            "decoder": {"layers": len(vlm.anatomy.layers), "heads": vlm.anatomy.num_heads},
            "seconds": round(time.perf_counter() - started, 3),
        }
        logs = tuple(float(step[token]) for step, token in zip(seen.logs, tokens, strict=False))
        self.answers[name] = LiveAnswer(name, question, inputs, tuple(tokens), logs, document)
        while len(self.answers) > KEPT_ANSWERS:
            self.answers.popitem(last=False)
        return document

    def answer(self, name: str) -> LiveAnswer:
        """A kept answer; InputError where it is gone."""
        if name not in self.answers:
            raise InputError(f"The answer {name} is no longer kept: ask again.")
        return self.answers[name]

    def report(self, names: Sequence[str]) -> str:
        """The page of these answers, as `sightline report` makes it of a run."""
        return report_of(self.vlm.name, [self.answer(name) for name in names])

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
        method, forced = find_method(answer.question.method, self.sinks), Forced(answer.tokens)
        with ExitStack() as stack:
            if method is not None:
                stack.enter_context(method.on(vlm))
            stack.enter_context(attach(anatomy, editor=Cutter(cut), layout=vlm.layout))
            vlm.generate_tokens(answer.inputs, len(answer.tokens), logits_processor=LogitsProcessorList([forced]))
        changes = [now - before for now, before in zip(forced.logs, answer.log_probabilities, strict=False)]
        total = round(math.fsum(changes), 4)
        return {"name": name, "changes": [round(change, 4) for change in changes], "total": total}


def prompt_columns(maps: Mapping[str, Any], text: Sequence[int], layout: TokenLayout) -> list[list[int]]:
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
                if place < 0:  # a patch that the method took out
                    continue
                columns.extend([] for _ in range(place + 1 - len(columns)))
                columns[place].append(position)
    return columns
