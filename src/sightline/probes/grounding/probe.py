"""The reader behind `Grounding`: hidden states behind chosen layers, beside the image features of their prompt.

A layer's output is taken where the next layer, or the final norm, is given it: there it is one tensor with its whole
graph, also when the layer is checkpointed and computed again in the backward pass. In training the tensors, which the
graph holds anyway, wait for the end of the pass; without a graph a layer is scored as soon as it is there, and the
steps of an answer, where no attention is read, together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention import EditedCall, ForwardPass
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import SightlineError
from sightline.models.anatomy import Anatomy
from sightline.models.layout import TokenLayout
from sightline.probes.grounding.answers import Answers, Step
from sightline.probes.grounding.form import ScoreForm
from sightline.probes.grounding.formula import LayerScore, score_words
from sightline.probes.grounding.head import GroundingHead
from sightline.probes.grounding.image import (
    VISUAL,
    ImageTap,
    plain_states,
    require_prompt_image,
    states_given,
    take_rows,
    words_of,
)
from sightline.probes.grounding.values import Scores, TokenScore

_LONGEST = 64
"""Decoding steps that wait to be scored, at most."""


@dataclass
class _Pass:
    """One forward pass: which words it scores, and what has come in of it.

    words: [batch, positions of the pass], bool, on the CPU; counts: words of each sample. has_graph: whether gradients
    are wanted. weights: by layer, [words of the sample, its patches] for each sample. waits: whether it is a step
    that can be scored later, together with others; its states are then [batch, hidden]. place: where its scores go.
    """

    step: ForwardPass
    words: Tensor
    counts: list[int]
    has_graph: bool
    states: dict[int, Tensor] = field(default_factory=dict)
    weights: dict[int, list[Tensor]] = field(default_factory=dict)
    scored: dict[int, list[LayerScore]] = field(default_factory=dict)
    waits: bool = False
    place: Step | None = None


class GroundingProbe:
    """Scores of what runs inside the `with`."""

    def __init__(
        self,
        spec: ScoreForm,
        anatomy: Anatomy,
        layers: tuple[int, ...],
        head: GroundingHead | None,
        tokenizer: Any = None,
        source: LayoutSource | None = None,
    ) -> None:
        self.spec, self.layers = spec, layers
        self._anatomy, self._head = anatomy, head
        self._tap = ImageTap(anatomy, spec.detach_image)
        self._pass: _Pass | None = None
        self._scores: Scores | None = None
        self._layout: TokenLayout | None = None
        self._has_image = torch.zeros((0, 1), dtype=torch.bool)
        self._waiting: list[_Pass] = []
        self._answers = Answers(anatomy, tokenizer, source)

    def scores(self) -> Scores:
        """Of the last forward pass; in training with its graph.

        Raises:
            SightlineError: when nothing was run inside the `with`.
        """
        self._score_waiting()
        if self._scores is None:
            raise SightlineError(
                "No words were scored: run the model inside the `with`, by a forward pass or generate."
            )
        return self._scores

    def result(self) -> list[list[TokenScore]]:
        """Every answer generated inside the `with`, token by token, in order: a list for each row returned.

        The last token of an answer has no score, since the model is never given it; an end token is such a one.
        Under beam search the scores are those of the tokens returned.

        Raises:
            SightlineError: when nothing was generated inside the `with`, or by rows that the prompt did not have.
        """
        self._score_waiting()
        return self._answers.result()

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""
        if self._waiting and (step.layout is not self._layout or not step.is_decoding):
            self._score_waiting()
        self._pass = self._scores = None
        if step.is_start and not self._answers.has_image:  # the first piece of a prompt may end before its image
            require_prompt_image("grounding", step)
        self._tap.begin(step)
        if step.layout is not self._layout:
            self._layout, self._has_image = step.layout, step.layout.mask(*VISUAL).any(1, keepdim=True)
        has_graph = torch.is_grad_enabled()
        # Behind the prompt, every token of a sample with an image is a word.
        is_next = step.is_decoding and step.length == 1 and step.offset >= step.layout.length
        words = self._has_image if is_next else words_of(step)
        is_wide = is_next and step.input_ids is not None and len(step.input_ids) != step.batch
        self._answers.is_widened |= is_wide
        waits = is_next and not has_graph and not self.spec.reads_attention
        self._pass = None if is_wide else _Pass(step, words, words.sum(1).tolist(), has_graph, waits=waits)

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Take what the layer's words give to each patch."""
        if self._pass is not None and self.spec.reads_attention and layer in self.layers:
            self._pass.weights[layer] = _patch_weights(attention, self._pass.words, self._tap.images.positions)

    def end(self, step: ForwardPass) -> None:
        """The pass is over: score what waits."""
        current, self._pass = self._pass, None
        self._tap.end()
        if current is None:
            return
        if current.waits:
            if len(current.states) == len(self.layers):
                current.place = self._answers.take(step, self._layout)
                self._waiting.append(current)
            if len(self._waiting) >= _LONGEST:
                self._score_waiting()
            return
        for layer in list(current.states):
            self._score(current, layer)
        if len(current.scored) < len(self.layers):
            return  # the pass ended in an error
        self._scores = scores = self._gathered(current)
        place = self._answers.take(step, self._layout)
        if place is not None:
            place.scores = scores.by_layer[:, :, -1].detach()
            none = torch.full_like(scores.is_text, -1, dtype=torch.long)
            place.patches = (none if scores.patches is None else scores.patches)[:, -1]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, the hooks are in place; the probe must have been lent to the model before."""
        with self._tap.hooked(), self._hooked(), self._answers.noting():
            try:
                yield
            finally:
                self._score_waiting()

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        count = len(self._anatomy.layers)
        with Hooks(self._anatomy) as hooks:
            for layer in self.layers:
                if layer < count - 1:
                    after: nn.Module | None = self._anatomy.layers[layer + 1]
                else:
                    hooks.after(self._anatomy.layers[layer], self._leave)
                    after = self._anatomy.norm
                if after is not None:
                    hooks.before(after, self._taking(layer))
            try:
                yield
            finally:
                self._pass = None

    def _current(self) -> _Pass | None:
        """The pass at hand, once its layers are entered."""
        return self._pass if self._tap.step is not None and self._tap.is_ready else None

    def _taking(self, layer: int) -> Any:
        last = len(self._anatomy.layers) - 1

        def take(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
            current = self._current()
            if current is None or (layer == last and layer not in current.states):
                return
            states = states_given(args, inputs)
            # A model may go on to write into its states.
            current.states[layer] = states[:, -1].clone() if current.waits else states
            if not current.has_graph and not current.waits:
                self._score(current, layer)

        return take

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """The last layer's output, until the norm behind it is given it."""
        current = self._current()
        if current is not None:
            current.states[len(self._anatomy.layers) - 1] = plain_states(
                output if isinstance(output, Tensor) else output[0]
            )

    def _score(self, current: _Pass, layer: int) -> None:
        states = current.states.pop(layer)
        words = torch.split(take_rows(states, current.words), current.counts)
        weights = current.weights.pop(layer, [None] * len(words))
        with torch.set_grad_enabled(current.has_graph):
            current.scored[layer] = [
                score_words(self.spec, self._head, self.layers.index(layer), mine, features, unit, attention)
                for mine, features, unit, attention in zip(
                    words, self._tap.images.features, self._tap.images.unit, weights, strict=True
                )
            ]

    def _score_waiting(self) -> None:
        """Score the decoding steps that wait, all of one prompt, in one go."""
        passes, self._waiting = self._waiting, []
        if not passes:
            return
        images, has_image = self._tap.images, passes[0].words[:, 0]
        scored = []
        with torch.no_grad():
            for number, layer in enumerate(self.layers):
                states = torch.stack([each.states[layer] for each in passes], 1)
                scored.append(
                    [
                        score_words(self.spec, self._head, number, mine if has else mine[:0], features, unit, None)
                        for mine, has, features, unit in zip(
                            states, has_image.tolist(), images.features, images.unit, strict=True
                        )
                    ]
                )
            device = scored[0][0].values.device
            by_layer = torch.zeros((len(self.layers), len(has_image), len(passes)), device=device)
            patches = torch.full((len(has_image), len(passes)), -1, dtype=torch.long, device=device)
            for sample in has_image.nonzero()[:, 0].tolist():
                by_layer[:, sample] = torch.stack([parts[sample].values.to(device) for parts in scored])
                closeness = [parts[sample].closeness.to(device) for parts in scored]
                patches[sample] = _best_patch(closeness, images.positions[sample])
        for number, each in enumerate(passes):
            if each.place is not None:
                each.place.scores, each.place.patches = by_layer[:, :, number], patches[:, number]
        last = by_layer[:, :, -1:]
        self._scores = Scores(last.mean(0), last, has_image[:, None].to(device), patches[:, -1:])

    def _gathered(self, current: _Pass) -> Scores:
        """Scores at their positions, and for each word the patch that speaks most for it over all layers."""
        scored = [current.scored[layer] for layer in self.layers]
        device = scored[0][0].values.device
        index = current.words.flatten().nonzero()[:, 0].to(device)
        rows = torch.stack([torch.cat([part.values for part in parts]).to(device) for parts in scored])
        spread = rows.new_zeros((len(rows), current.words.numel())).index_copy(1, index, rows)
        by_layer = spread.reshape(len(rows), *current.words.shape)
        patches = None
        if not current.has_graph:
            best = [
                _best_patch([parts[sample].closeness for parts in scored], positions)
                for sample, positions in enumerate(self._tap.images.positions)
            ]
            flat = torch.full((current.words.numel(),), -1, dtype=torch.long, device=device)
            patches = flat.index_copy(0, index, torch.cat(best).to(device)).reshape(current.words.shape)
        return Scores(by_layer.mean(0), by_layer, current.words.to(device), patches)


def _best_patch(closeness: list[Tensor], positions: Tensor) -> Tensor:
    """[words]: the position of the patch with the largest sum over layers."""
    total = torch.stack(closeness).sum(0)
    if not len(positions):
        return torch.full((len(total),), -1, dtype=torch.long, device=total.device)
    return positions.to(total.device)[total.argmax(-1)]


def _patch_weights(attention: EditedCall, words: Tensor, positions: list[Tensor]) -> list[Tensor]:
    """[words, patches] for each sample: attention of each word on each patch, the mean over heads, in float32."""
    call = attention.call
    device = call.query.device
    rows = words.any(0).nonzero()[:, 0]
    mean = torch.zeros((words.shape[0], len(rows), call.keys), dtype=torch.float32, device=device)
    for _, block in attention.weight_blocks(rows.to(device)):
        mean[:, block.first_row : block.first_row + len(block.rows)] += block.values.sum(1)
    mean = torch.nn.functional.pad(mean / call.heads, (0, 1))
    found = []
    for sample, places in enumerate(positions):
        column = places - call.first_key
        # Keys that a sliding window has dropped get nothing: the column behind the last.
        column = torch.where((column >= 0) & (column < call.keys), column, call.keys).to(device)
        mine = words[sample, rows].nonzero()[:, 0].to(device)
        found.append(mean[sample].index_select(0, mine).index_select(1, column))
    return found
