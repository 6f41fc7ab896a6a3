"""Reads impact at one row of a prompt: one forward pass, and then any number of maps from what it left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sightline.attention.inner import find_inner
from sightline.attention.override import AttentionOverride, override_attention
from sightline.errors import InputError, ModelError
from sightline.knockout.answer import Answer
from sightline.knockout.capture import Capture
from sightline.knockout.causal import causal_row
from sightline.knockout.every_row import causal_whole
from sightline.knockout.local import local_row
from sightline.knockout.rerun import Rerun
from sightline.models.anatomy import Anatomy, find_anatomy
from sightline.models.transformers_api import LogitsProcessorList

Scope = Literal["row", "every-row"]


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
            return local_row(self._rerun, groups, check_layers(layers, self.layers), per_head)

    def causal(
        self,
        groups: Sequence[Sequence[int]],
        layers: Sequence[int] | None = None,
        window: int = 1,
        scope: Scope = "row",
        target: int | None = None,
    ) -> dict[str, Tensor]:
        """As `causal_maps`, for this row, without the baseline."""
        check_groups(groups, self.present, self.row)
        if window < 1:
            raise InputError(f"A window of {window} layers hides nothing: give at least 1.")
        if scope not in ("row", "every-row"):
            raise InputError(f"There is no scope called '{scope}'; use row or every-row.")
        chosen = check_layers(layers, self.layers)
        with torch.no_grad():
            answer = self._answer(target)
            if scope == "row" and not self._rerun.capture.has_feedback:
                return causal_row(self._rerun, groups, chosen, window, answer)
            if not self._rerun.capture.keep_whole or self._rerun.capture.offset:
                self._rerun.recapture()
            return causal_whole(self._rerun, groups, chosen, window, answer, scope == "row")

    def _answer(self, target: int | None) -> Answer:
        with torch.no_grad():
            output = self._rerun.layer(-1).output
            if output is None:
                raise ModelError("The forward pass did not reach the last layer, so no answer can be read.")
            logits = self._rerun.logits(output)[0]
        if target is not None and not 0 <= target < len(logits):
            raise InputError(f"There is no token {target} in a vocabulary of {len(logits)}.")
        return Answer.of(logits, target)


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
    with override_attention(anatomy) as takeover:
        capture = Capture(anatomy, at, present)
        run_pass(anatomy, takeover, capture, inputs)
        yield _reader(anatomy, takeover, inputs, present, capture, at)


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
    chosen = check_layers(layers, len(anatomy.layers))
    maps: dict[str, Tensor] = {}
    with override_attention(anatomy) as takeover, torch.no_grad():
        capture = Capture(anatomy, last, present, keep_whole=True)
        run_pass(anatomy, takeover, capture, inputs)
        for row in present.nonzero()[:, 0].tolist():
            before = [number for number, group in enumerate(groups) if max(group) <= row]
            if not before:
                continue
            found = local_row(
                Rerun(anatomy, takeover, capture.moved(row)), [groups[number] for number in before], chosen, per_head
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
    with override_attention(anatomy) as takeover:
        steps = _Steps(anatomy, takeover, Capture(anatomy, -1, present), inputs, visit)
        generating: Any = anatomy.model
        entered = find_inner(anatomy) or anatomy.model
        with steps.capture.reading(takeover, entered), torch.no_grad():
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
    takeover: AttentionOverride
    capture: Capture
    inputs: Mapping[str, Any]
    visit: Callable[[ImpactReader], None]
    visits: int = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores are left as they are."""
        inputs = extended(self.inputs, input_ids[:, input_ids.shape[1] - self.visits :])
        present = present_of(inputs)
        with self.capture.paused():
            self.visit(_reader(self.anatomy, self.takeover, inputs, present, self.capture, len(present) - 1))
        self.visits += 1
        return scores


def extended(inputs: Mapping[str, Any], tokens: Tensor) -> dict[str, Any]:
    """Inputs of the prompt with generated tokens behind it. tokens: [1, new]."""
    ids, count = inputs["input_ids"], int(tokens.shape[1])
    grown = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.shape == ids.shape and count:
            # Masks go on with ones; types of tokens with those of text.
            more = tokens.to(value) if name == "input_ids" else torch.full_like(tokens, int("mask" in name)).to(value)
            grown[name] = torch.cat([value, more], 1)
    return grown


def _reader(
    anatomy: Anatomy, takeover: AttentionOverride, inputs: Mapping[str, Any], present: Tensor, capture: Capture, at: int
) -> ImpactReader:
    rerun = Rerun(anatomy, takeover, capture)

    def recapture() -> None:
        rerun.capture = Capture(anatomy, at, present, keep_whole=True)
        run_pass(anatomy, takeover, rerun.capture, inputs)

    rerun.recapture = recapture
    return ImpactReader(anatomy, inputs, at, present, rerun)


def run_pass(anatomy: Anatomy, takeover: AttentionOverride, capture: Capture, inputs: Mapping[str, Any]) -> None:
    """One captured forward pass of the whole prompt."""
    model: Any = anatomy.model
    with capture.reading(takeover, model), torch.no_grad():
        model(**{"use_cache": True, **inputs})
    if len(capture.layers) != len(anatomy.layers) or any(
        layer.row is None for layer in capture.layers if anatomy.attentions[layer.index] is not None
    ):
        kind = type(model).__name__
        raise ModelError(f"Attention of {kind} was not called in every layer, so its impact can't be read.")


def anatomy_of(model: Any) -> Anatomy:
    """The anatomy of a `VLM`, an anatomy or a bare model."""
    known = model if isinstance(model, Anatomy) else getattr(model, "anatomy", None)
    return known if isinstance(known, Anatomy) else find_anatomy(model)


def present_of(inputs: Mapping[str, Any]) -> Tensor:
    """[positions], True where one prompt's inputs are not padding."""
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    given = ids if ids is not None else inputs.get("inputs_embeds")
    if not isinstance(given, Tensor) or given.dim() < 2:
        raise InputError("The inputs have neither input_ids nor inputs_embeds: encode a prompt first.")
    if given.shape[0] != 1:
        raise InputError(f"Impact reads one prompt at a time, and the inputs have {given.shape[0]}.")
    if isinstance(mask, Tensor) and mask.dim() == 2:
        return mask[0].bool().cpu()
    return torch.ones(given.shape[1], dtype=torch.bool)


def check_row(present: Tensor, row: Literal["last"] | int) -> int:
    """The row's position; "last" is the last that is not padding.

    Raises:
        InputError: for a row that is padding or not there.
    """
    places = present.nonzero()[:, 0].tolist()
    if not places:
        raise InputError("The prompt is all padding, so there is no row to look at.")
    if row == "last":
        return int(places[-1])
    if not isinstance(row, int) or isinstance(row, bool):
        raise InputError(f"'{row}' is no row: give a position, or last.")
    if not 0 <= row < len(present):
        raise InputError(f"There is no row {row} in a prompt of {len(present)} positions.")
    if not present[row]:
        raise InputError(f"Row {row} is padding: choose a position of the prompt.")
    return row


def check_layers(layers: Sequence[int] | None, count: int) -> list[int]:
    """The layers chosen, all for None.

    Raises:
        InputError: for none, and one that the decoder has not.
    """
    chosen = list(range(count)) if layers is None else list(layers)
    if not chosen:
        raise InputError("No layers are chosen: name at least one, or leave the layers out for all.")
    wrong = next((layer for layer in chosen if not 0 <= layer < count), None)
    if wrong is not None:
        raise InputError(f"There is no layer {wrong}: the decoder has layers 0 to {count - 1}.")
    return chosen


def check_groups(groups: Sequence[Sequence[int]], present: Tensor, row: int) -> None:
    """InputError for no groups, an empty one, and positions that are padding, after the row or not there."""
    if not len(groups):
        raise InputError("There is nothing to hide: choose at least one source.")
    for number, group in enumerate(groups):
        if not len(group):
            raise InputError(f"Source {number} has no positions: each source needs at least one.")
        low, high = min(group), max(group)
        if low < 0 or high >= len(present):
            wrong = low if low < 0 else high
            raise InputError(f"There is no position {wrong} in a prompt of {len(present)} positions.")
        if high > row:
            raise InputError(f"Position {high} comes after row {row}, which can't see it.")
        padding = next((position for position in group if not present[position]), None)
        if padding is not None:
            raise InputError(f"Position {padding} is padding, which no row sees: choose positions of the prompt.")
