"""Reads impact at one row of a prompt: one forward pass, and then any number of maps from what it left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from sightline.attention.inner import find_inner
from sightline.attention.override import AttentionOverride, override_attention
from sightline.errors import InputError, ModelError
from sightline.knockout.answer import RowAnswer
from sightline.knockout.capture import Capture
from sightline.knockout.causal import causal_row
from sightline.knockout.estimate import estimated_row
from sightline.knockout.every_row import causal_whole
from sightline.knockout.local import local_row
from sightline.knockout.prompts import anatomy_of, check_groups, check_row, chosen_layers, extended, present_of
from sightline.knockout.rerun import Rerun
from sightline.knockout.study_rules import Scope
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.generation import LogitsProcessorList


@dataclass
class ImpactReader:
    """One row of one prompt, after its forward pass; made by `read_row` and `read_tokens`, valid inside them.

    Holds the prompt's keys and values and the row's own states, not those of other positions unless a map needs them.
    inputs: of the whole prompt up to here. row: its position.
    """

    anatomy: Anatomy
    inputs: Mapping[str, Any]
    row: int
    present: Tensor
    _rerun: Rerun

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return len(self.anatomy.layers)

    @property
    def predicted(self) -> int:
        """The likeliest token after the row."""
        return self._answer(None).predicted

    def baseline(self, target: int | None = None) -> dict[str, float | int]:
        """The untouched answer: "token" (the one followed), its "logit", "prob" and "logprob"."""
        return self._answer(target).baseline()

    def local(
        self, groups: Sequence[Sequence[int]], layers: Sequence[int] | None = None, per_head: bool = False
    ) -> dict[str, Tensor]:
        """As `local_maps`, for this row."""
        check_groups(groups, self.present, self.row)
        with torch.no_grad():
            return local_row(self._rerun, groups, chosen_layers(layers, self.layers), per_head)

    def causal(
        self,
        groups: Sequence[Sequence[int]],
        layers: Sequence[int] | None = None,
        window: int = 1,
        scope: Scope = "row",
        target: int | None = None,
        edges: Bool[Tensor, "layers groups"] | None = None,
    ) -> dict[str, Tensor]:
        """As `causal_maps`, for this row, without the baseline. edges: of the scope row those alone; others are 0."""
        check_groups(groups, self.present, self.row)
        if window < 1:
            raise InputError(f"A window of {window} layers hides nothing: give at least 1.")
        if scope not in ("row", "every-row"):
            raise InputError(f"There is no scope called '{scope}'; use row or every-row.")
        chosen = chosen_layers(layers, self.layers)
        with torch.no_grad():
            answer = self._answer(target)
            if scope == "row" and not self._rerun.capture.has_feedback:
                return causal_row(self._rerun, groups, chosen, window, answer, edges)
            if not self._rerun.capture.keep_whole or self._rerun.capture.offset:
                self._rerun.recapture()
            return causal_whole(self._rerun, groups, chosen, window, answer, scope == "row")

    def estimate(
        self,
        groups: Sequence[Sequence[int]],
        layers: Sequence[int] | None = None,
        window: int = 1,
        target: int | None = None,
    ) -> dict[str, Tensor]:
        """First-order estimates of `causal`'s "logit", "prob" and "logprob" for the scope row; see `estimate`.

        Raises InputError for a row that other rows read, whose changes come back to it.
        """
        check_groups(groups, self.present, self.row)
        if self._rerun.capture.has_feedback:
            raise InputError(f"Other rows read row {self.row}, so there is no estimate for it: leave the estimate out.")
        return estimated_row(self._rerun, groups, chosen_layers(layers, self.layers), window, self._answer(target))

    def _answer(self, target: int | None) -> RowAnswer:
        with torch.no_grad():
            output = self._rerun.layer(-1).output
            if output is None:
                raise ModelError("The forward pass did not reach the last layer, so no answer can be read.")
            logits = self._rerun.logits(output)[0]
        if target is not None and not 0 <= target < len(logits):
            raise InputError(f"There is no token {target} in a vocabulary of {len(logits)}.")
        return RowAnswer.of(logits, target)


@contextmanager
def read_row(model: Any, inputs: Mapping[str, Any], row: Literal["last"] | int = "last") -> Iterator[ImpactReader]:
    """Inside, a reader of one row of one prompt; its forward pass is run on entry.

    model: a `VLM`, an `Anatomy` or a bare Transformers model. row: "last" is the row that predicts the next token.

    Raises:
        InputError: for more than one prompt, and a row that is padding or not there.
        ModelError: when the model's attention can't be reached.
    """
    anatomy = anatomy_of(model)
    present = present_of(inputs)
    at = check_row(present, row)
    with override_attention(anatomy) as override:
        capture = Capture(anatomy, at, present)
        run_pass(anatomy, override, capture, inputs)
        yield _reader(anatomy, override, inputs, present, capture, at)


def local_every_row(
    model: Any,
    inputs: Mapping[str, Any],
    groups: Sequence[Sequence[int]],
    layers: Sequence[int] | None,
    per_head: bool,
) -> dict[str, Tensor]:
    """`local_maps` with rows="all": every row that is not padding, from a single forward pass."""
    anatomy = anatomy_of(model)
    present = present_of(inputs)
    last = check_row(present, "last")
    check_groups(groups, present, last)
    chosen = chosen_layers(layers, len(anatomy.layers))
    maps: dict[str, Tensor] = {}
    with override_attention(anatomy) as override, torch.no_grad():
        capture = Capture(anatomy, last, present, keep_whole=True)
        run_pass(anatomy, override, capture, inputs)
        for row in present.nonzero()[:, 0].tolist():
            before = [number for number, group in enumerate(groups) if max(group) <= row]
            if not before:
                continue
            found = local_row(
                Rerun(anatomy, override, capture.moved(row)), [groups[number] for number in before], chosen, per_head
            )
            for name, values in found.items():
                shape = (*values.shape[:-1], len(present), len(groups))
                maps.setdefault(name, torch.full(shape, torch.nan))[..., row, before] = values
    return maps


def read_tokens(
    model: Any,
    inputs: Mapping[str, Any],
    new_tokens: int,
    visit: Callable[[ImpactReader], None],
) -> list[int]:
    """Generates greedily, and calls `visit` with a reader of the row that predicts each new token, as it is predicted.

    The prompt is run once; each further token is one decoding step. A reader is valid only during its visit. Stops
    early after an end of sequence. Returns the new tokens.

    Raises: as `read_row`.
    """
    if new_tokens < 1:
        raise InputError(f"{new_tokens} new tokens are none: ask for at least 1.")
    anatomy = anatomy_of(model)
    present = present_of(inputs)
    check_row(present, "last")
    if not bool(present[-1]):
        raise InputError("The prompt is padded on the right, so nothing can be generated after it: pad on the left.")
    with override_attention(anatomy) as override:
        steps = _Steps(anatomy, override, Capture(anatomy, -1, present), inputs, visit)
        generating: Any = anatomy.model
        entered = find_inner(anatomy) or anatomy.model
        with steps.capture.reading(override, entered), torch.no_grad():
            output = generating.generate(
                **inputs,
                max_new_tokens=new_tokens,
                do_sample=False,
                num_beams=1,
                logits_processor=LogitsProcessorList([steps]),
            )
    rows = getattr(output, "sequences", output)
    return [int(token) for token in rows[0, -steps.visits :]]


@dataclass
class _Steps:
    """The logits processor by which each step of `generate` is visited, between its forward pass and the next."""

    anatomy: Anatomy
    override: AttentionOverride
    capture: Capture
    inputs: Mapping[str, Any]
    visit: Callable[[ImpactReader], None]
    visits: int = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores are left as they are."""
        inputs = extended(self.inputs, input_ids[:, input_ids.shape[1] - self.visits :])
        present = present_of(inputs)
        with self.capture.paused():
            self.visit(_reader(self.anatomy, self.override, inputs, present, self.capture, len(present) - 1))
        self.visits += 1
        return scores


def _reader(
    anatomy: Anatomy, override: AttentionOverride, inputs: Mapping[str, Any], present: Tensor, capture: Capture, at: int
) -> ImpactReader:
    rerun = Rerun(anatomy, override, capture)

    def recapture() -> None:
        rerun.capture = Capture(anatomy, at, present, keep_whole=True)
        run_pass(anatomy, override, rerun.capture, inputs)

    rerun.recapture = recapture
    return ImpactReader(anatomy, inputs, at, present, rerun)


def run_pass(anatomy: Anatomy, override: AttentionOverride, capture: Capture, inputs: Mapping[str, Any]) -> None:
    """One captured forward pass of the whole prompt."""
    model: Any = anatomy.model
    with capture.reading(override, model), torch.no_grad():
        model(**{"use_cache": True, **inputs})
    if len(capture.layers) != len(anatomy.layers) or any(
        layer.row is None for layer in capture.layers if anatomy.attentions[layer.index] is not None
    ):
        kind = type(model).__name__
        raise ModelError(f"Attention of {kind} was not called in every layer, so its impact can't be read.")
