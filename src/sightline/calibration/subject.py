"""One model under calibration: what several instruments read of the same pass is computed once, and counted for each.

The unit of cost is a plain forward pass of the prompt, counted in positions that the decoder's layers are given: half
of the layers over all positions, or all layers over half of them, are half a pass.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.attention.hooks import Hooks
from sightline.calibration.cases import Case
from sightline.data.sample import Sample
from sightline.data.training_sample import TrainingSample
from sightline.models.layout import TokenLayout
from sightline.models.vlm import VLM
from sightline.probes.detection.glsim import GLSim
from sightline.probes.detection.signals import WordSignals, read_signals
from sightline.probes.dominance import Dominance, SampleDominance
from sightline.probes.sinks import Sinks, search_sinks
from sightline.zoo import shapes_samples

KEPT = 16
"""Cases whose passes are kept for the next instrument."""

SINK_SAMPLES = 12
"""Prompts on which a model's sinks are looked for."""

Value = TypeVar("Value")
Span = tuple[int, int, int]
"""Where a word of a caption begins and ends, and its label."""


@dataclass(frozen=True)
class PlainPass:
    """What one forward pass of a prompt shows.

    Attributes:
        inputs: of the forward.
        layout: where text and image stand.
        logits: of the token that follows, [vocabulary].
        states: from the embeddings to the final norm, [layers + 1, positions, hidden].
        rows: attention of the last row, [layers with attention, heads, positions].
    """

    inputs: Mapping[str, Any]
    layout: TokenLayout
    logits: Float[Tensor, " vocabulary"]
    states: Float[Tensor, "depths positions hidden"]
    rows: Float[Tensor, "layers heads positions"]

    @property
    def cells(self) -> Int[Tensor, " patches"]:
        """Positions of the patches, in reading order."""
        return self.layout.grids[0][0].positions.flatten()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the patches."""
        rows, columns = self.layout.grids[0][0].positions.shape
        return int(rows), int(columns)


class Subject:
    """A loaded model. spent: what the instrument at hand has cost so far, in plain passes."""

    def __init__(self, vlm: VLM, seed: int = 0) -> None:
        self.vlm, self.seed, self.spent = vlm, seed, 0.0
        self._kept: OrderedDict[tuple[str, str], tuple[float, Any]] = OrderedDict()
        self._charged: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """The next reading: nothing is spent on it yet."""
        self.spent = 0.0
        self._charged.clear()

    @property
    def layers(self) -> int:
        """Of the decoder."""
        return len(self.vlm.anatomy.layers)

    def inputs(self, case: Case) -> Mapping[str, Any]:
        """The case as the model's forward takes it."""
        found: Mapping[str, Any] = self._once("inputs", case, lambda: self.vlm.encode(case.sample))
        return found

    def plain(self, case: Case) -> PlainPass:
        """One pass, with all that is read of it."""
        return self._once("plain", case, lambda: self._plain(self.inputs(case)))

    def dominance(self, case: Case) -> SampleDominance:
        """MDI and AEI of the row that answers, and the same without the sinks that were found on this model."""

        def read() -> SampleDominance:
            with Dominance(queries="generated", sinks=self.sinks if self.sinks.dims else None).on(self.vlm) as probe:
                self.vlm.generate_tokens(self.inputs(case), max_new_tokens=1)
            return probe.result().samples[0]

        return self._once("dominance", case, read)

    def signals(self, case: Case, text: str, words: Sequence[Span]) -> WordSignals:
        """What the words of a caption show while the model reads it."""
        sample = TrainingSample(case.id, (case.picture,), case.question.prompt, text, tuple(words))
        return self._once("signals", case, lambda: read_signals(self.vlm, [sample], GLSim()))

    @torch.no_grad()
    def logits_of(self, samples: Sequence[Sample]) -> Float[Tensor, "samples vocabulary"]:
        """Of the first token of each answer."""
        found: Tensor = self.vlm.model(**self.vlm.encode(samples)).logits[:, -1].float()
        return found

    def answers(self, samples: Sequence[Sample], new_tokens: int = 3) -> list[str]:
        """Greedy answers."""
        rows = self.vlm.generate_tokens(self.vlm.encode(samples), max_new_tokens=new_tokens)
        return [self.vlm.text_of(row) for row in rows]

    @cached_property
    def sinks(self) -> Sinks:
        """Found on prompts of their own, once, and counted to nobody."""
        return self.find_sinks(self.seed, SINK_SAMPLES)

    def find_sinks(self, seed: int, count: int) -> Sinks:
        """On `count` prompts of the bundled world."""
        fields = ("id", "image", "prompt")
        samples = [Sample(**{name: each[name] for name in fields}) for each in shapes_samples(count, seed)]
        return search_sinks(self.vlm, [self.vlm.encode(sample) for sample in samples])

    def token_of(self, word: str) -> int:
        """The last token of a word of the vocabulary."""
        ids: list[int] = self.vlm.tokenizer(" " + word, add_special_tokens=False)["input_ids"]
        return ids[-1]

    def places_of(self, case: Case) -> Int[Tensor, " words"]:
        """Positions in the prompt of the words for the object in question."""
        ids = self.inputs(case)["input_ids"][0].cpu()
        wanted = torch.tensor([self.token_of(word) for word in (case.kind.colour, case.kind.shape)])
        return torch.isin(ids, wanted).nonzero()[:, 0]

    def draw(self, case: Case) -> torch.Generator:
        """Random numbers of this case and no other."""
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{self.vlm.name}/{case.id}".encode()))

    @contextmanager
    def counted(self, case: Case) -> Iterator[None]:
        """Inside, what the decoder's layers are given is added to `spent`."""
        length = int(self.inputs(case)["input_ids"].shape[1])
        with self._counting(length):
            yield

    @contextmanager
    def _counting(self, length: int) -> Iterator[None]:
        whole = self.layers * length

        def count(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            self.spent += hidden.shape[:-1].numel() / whole

        with Hooks(self.vlm.anatomy, in_bypassed=True) as hooks:
            for layer in self.vlm.anatomy.layers:
                hooks.before(layer, count)
            yield

    def _once(self, name: str, case: Case, make: Callable[[], Value]) -> Value:
        """Made at the first call and kept for a while; each reading that needs it pays what it cost, once."""
        key = name, case.id
        if key not in self._kept:
            _ = self.sinks if name == "dominance" else None  # before its cost is counted
            before, self.spent = self.spent, 0.0
            if name == "inputs":
                made = make()
            else:
                with self.counted(case):
                    made = make()
            self._kept[key] = self.spent, made
            self.spent = before
            while len(self._kept) > 3 * KEPT:
                self._kept.popitem(last=False)
        cost, value = self._kept[key]
        self.spent += 0.0 if key in self._charged else cost
        self._charged.add(key)
        return value  # type: ignore[no-any-return]

    @torch.no_grad()
    def _plain(self, inputs: Mapping[str, Any]) -> PlainPass:
        rows: dict[int, Tensor] = {}

        class LastRow:
            def begin(self, step: ForwardPass) -> None:
                pass

            def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
                last = torch.tensor([attention.call.queries - 1], device=attention.call.query.device)
                rows[layer] = attention.row_weights(last)[0, :, 0].float().cpu()

            def end(self, step: ForwardPass) -> None:
                pass

        with attach(self.vlm.anatomy, reader=LastRow(), layout=self.vlm.layout):
            output = self.vlm.model(**inputs, output_hidden_states=True)
        return PlainPass(
            inputs,
            self.vlm.layout(inputs),
            output.logits[0, -1].float().cpu(),
            torch.stack([state[0].float().cpu() for state in output.hidden_states]),
            torch.stack([rows[layer] for layer in sorted(rows)]),
        )
