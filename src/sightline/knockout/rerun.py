"""Runs a model's layers, and its end, for many rows that stand in the place of one row of a prompt.

All rows of a layer go through its own forward as one batch of single positions, and attend to the keys and values that
the prompt's pass left behind, each with its own last key and value. A layer that this does not reproduce is run over
the whole prompt for each row instead: slower, as exact.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionCall
from sightline.attention.hooks import Hooks
from sightline.attention.inner import find_inner
from sightline.attention.override import AttentionOverride
from sightline.errors import ModelError
from sightline.knockout.capture import Capture
from sightline.knockout.layer_pass import (
    LayerPass,
    Shared,
    narrowed,
    repeated_state,
    shared_of,
    state_bytes,
    whole_shared,
)
from sightline.memory import block_bytes, with_less_memory
from sightline.models.anatomy import Anatomy

RowAttend = Callable[[Tensor, Tensor, Tensor, slice], Tensor]
"""From queries, last keys and last values of some rows, [rows, heads, width] each, and which rows of all they are, to
the outputs, [rows, heads, width]."""

_FEWEST_ROWS = 256
"""Rows a layer is given at once at least: fewer would read its weights too often."""

_FEWEST_ANSWERS = 64
"""Rows whose logits are computed at once at least."""


@dataclass
class Rerun:
    """The layers of one captured pass, ready to be run again.

    recapture: takes the pass again with all positions kept. limit: rows at once, once memory has run out.
    """

    anatomy: Anatomy
    override: AttentionOverride
    capture: Capture
    recapture: Callable[[], None] = lambda: None
    limit: int | None = None
    _is_exact: dict[int, bool] = field(default_factory=dict)
    _ends: bool = False

    def layer(self, index: int) -> LayerPass:
        """The pass of one layer."""
        return self.capture.layers[index]

    def rows_at_once(self, index: int) -> int:
        """Rows that a layer is given in one go, so that its activations take about `block_bytes`."""
        layer = self.layer(index)
        parameters = list(layer.module.parameters())
        size = layer.hidden.element_size()
        # A layer's widths sum up to its parameters over the hidden size; experts are not all entered.
        widths = sum(parameter.numel() for parameter in parameters) // max(1, self.anatomy.hidden_size)
        row_bytes = size * (8 * layer.hidden.numel() + widths)
        rows = max(_FEWEST_ROWS, block_bytes() // max(1, row_bytes))
        return rows if self.limit is None else min(rows, self.limit)

    def rows_carried(self) -> int:
        """Rows whose states may be kept between layers."""
        states = self.layer(0).hidden
        return max(_FEWEST_ROWS, block_bytes() // (states.numel() * states.element_size()))

    def rows_answered(self) -> int:
        """Rows whose logits are computed in one go."""
        logits = self.capture.logits
        return max(_FEWEST_ANSWERS, block_bytes() // (4 * (1 if logits is None else len(logits))))

    def run(
        self, index: int, hidden: Tensor, attend: RowAttend, shared: Shared | None = None, is_one: bool = False
    ) -> Tensor:
        """A layer's output for rows [..., rows, 1, hidden size].

        shared: keys and values that layers share, of these rows; updated. Rows that it lacks have the prompt's own.
        is_one: all rows are the same state, distinguished by `attend` alone, so that it is projected once for all.
        """
        if index not in self._is_exact:
            self._is_exact[index] = self._reproduces(index)
        return self._run(index, hidden, attend, {} if shared is None else shared, is_one)

    def _run(self, index: int, hidden: Tensor, attend: RowAttend, shared: Shared, is_one: bool) -> Tensor:
        rows = int(hidden.shape[-3])
        outputs: list[Tensor] = []
        made: dict[Any, list[tuple[Tensor, ...]]] = {}

        def attempt() -> None:
            start = sum(part.shape[-3] for part in outputs)
            while start < rows:
                part = slice(start, min(rows, start + self._step(index)))
                # A row repeated without a copy would make every matrix product one of single rows.
                states = hidden[..., part, :, :].contiguous()
                output, entries = self._run_part(index, states, attend, part, shared, is_one)
                outputs.append(output)
                for name, entry in entries.items():
                    made.setdefault(name, []).append(entry)
                start = part.stop

        def shrink() -> bool:
            before = self._step(index)
            self.limit = max(1, before // 2)
            return before > 1

        with_less_memory(attempt, shrink)
        for name, entries in made.items():
            shared[name] = tuple(torch.cat(parts) for parts in zip(*entries, strict=True))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -3)

    def _step(self, index: int) -> int:
        rows = self.rows_at_once(index)
        if self._is_exact.get(index, True) and self.layer(index).row is not None:
            return rows
        whole = self.capture.offset + self.capture.at + 1 if not self._is_exact.get(index, True) else 1
        state = state_bytes(self.layer(index)) if whole == 1 else 0
        return max(1, min(rows // whole, block_bytes() // state if state else rows))

    def _run_part(
        self, index: int, hidden: Tensor, attend: RowAttend, part: slice, shared: Shared, is_one: bool = False
    ) -> tuple[Tensor, Shared]:
        layer = self.layer(index)
        if not self._is_exact.get(index, True):
            return self._run_whole(layer, hidden, attend, part), {}
        changed: dict[str, Any] = {}
        given = shared_of(layer, shared, part)
        if layer.sharing is not None:
            changed[layer.sharing] = given
        if layer.row is None:
            self._find_state(layer)
            changed |= dict.fromkeys(layer.caches, repeated_state(layer, hidden.shape[-3]))
            changed |= {name: None for name, value in layer.inputs.items() if _is_padding_mask(name, value)}
        before = dict(given.items()) if layer.sharing is not None else {}

        def answer(_: int, call: AttentionCall) -> Tensor:
            projecting.close()
            output = attend(call.query[:, :, 0], call.key[:, :, 0], call.value[:, :, 0], part)
            return output[:, None].to(call.value.dtype)

        attention = self.anatomy.attentions[index] if is_one else None
        with ExitStack() as projecting, self.override.by(answer):
            if attention is not None and hidden.shape[-3] > 1:
                projecting.enter_context(_projecting_once(self.anatomy, attention, int(hidden.shape[-3])))
            output = layer.run(hidden, **changed)
        made = {name: entry for name, entry in given.items() if entry is not before.get(name)} if before else {}
        return output, made

    def _find_state(self, layer: LayerPass) -> None:
        """The state before the row of a layer without softmax attention, from a pass over what stands before."""
        at, whole, cache = self.capture.at, layer.whole, self.capture.empty_cache
        if layer.before is not None or not at or whole is None or cache is None:
            return
        before = copy.deepcopy(cache)
        inputs = {
            name: narrowed(value, self.capture.positions, at)
            for name, value in whole.inputs.items()
            if name not in layer.caches
        }
        layer.module(whole.hidden.narrow(-2, 0, at), **{**inputs, **dict.fromkeys(layer.caches, before)})
        layer.before = before

    def _run_whole(self, layer: LayerPass, hidden: Tensor, attend: RowAttend, part: slice) -> Tensor:
        """The layer over all positions, the last of which is each row's."""
        whole = layer.whole
        if whole is None:
            raise ModelError(f"Layer {layer.index} can't be run for single rows in {self._kind}, nor over its prompt.")
        rows, at = hidden.shape[-3], self.capture.at
        states = whole.hidden.expand(*whole.hidden.shape[:-3], rows, -1, -1).clone()
        states[..., at, :] = hidden[..., 0, :]

        def answer(_: int, call: AttentionCall) -> Tensor:
            output = for_batch(call).run().clone()
            row = attend(call.query[:, :, at], call.key[:, :, at], call.value[:, :, at], part)
            output[:, at] = row.to(output.dtype)
            return output

        with self.override.by(answer):
            output = layer.module(states, **{**whole.inputs, **whole_shared(layer, rows)})
        output = output[0] if isinstance(output, tuple) else output
        return output.narrow(-2, at, 1)  # type: ignore[no-any-return]

    def _reproduces(self, index: int) -> bool:
        """Whether a layer run for rows gives what it gave in the pass; if not, all positions are kept from here on."""
        layer = self.layer(index)
        wanted = layer.output
        if wanted is None:
            return True
        try:
            hidden = layer.hidden.expand(*layer.hidden.shape[:-3], 2, -1, -1).clone()
            found, _ = self._run_part(index, hidden, self._untouched(index), slice(0, 2), {})
            far = (found - wanted).float().norm() / wanted.float().norm().clamp(min=1e-30)
            if bool(far <= torch.finfo(wanted.dtype).eps ** 0.5):
                return True
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError):
            pass
        if layer.whole is None:
            self.recapture()
        return False

    def _untouched(self, index: int) -> RowAttend:
        def attend(query: Tensor, key: Tensor, value: Tensor, part: slice) -> Tensor:
            row = self.layer(index).row
            if row is None:
                raise ModelError(f"Layer {index} of {self._kind} attends where it was not seen to.")
            return row.replaced(query, key, value)

        return attend

    @property
    def _kind(self) -> str:
        return type(self.anatomy.model).__name__

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, vocabulary], the model's answers for rows that leave the last layer, [..., rows, 1, hidden size]."""
        if not self._ends:
            self._check_end()
        return self._end(hidden)

    def _check_end(self) -> None:
        wanted, last = self.capture.logits, self.layer(-1).output
        if wanted is None or last is None:
            raise ModelError(f"{self._kind} gives no logits, so no effect on its answer can be read.")
        try:
            found = self._end(last.expand(*last.shape[:-3], 2, -1, -1))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            raise ModelError(f"What {self._kind} does after its last layer can't be run alone ({error}).") from error
        far = (found - wanted).float().norm() / wanted.float().norm().clamp(min=1e-30)
        if not bool(far <= torch.finfo(wanted.dtype).eps ** 0.5):
            raise ModelError(f"What {self._kind} does after its last layer can't be told apart from its layers.")
        self._ends = True

    def _end(self, hidden: Tensor) -> Tensor:
        """The model is entered with a token of text, and its layers, which do nothing, hand `hidden` on."""
        model: Any = find_inner(self.anatomy) or self.anatomy.model
        device = getattr(model, "device", hidden.device)
        token = torch.tensor([[_plain_token(self.anatomy)]], device=device)
        with _handing_on(self.anatomy, (hidden,) if self.layer(-1).in_tuple else hidden):
            logits = model(input_ids=token, use_cache=False).logits
        return logits[:, -1]  # type: ignore[no-any-return]


def for_batch(call: AttentionCall) -> AttentionCall:
    """The call with one prompt's mask repeated for a batch of its variants."""
    mask, batch = call.mask, call.query.shape[0]
    if isinstance(mask, Tensor) and mask.shape[0] == 1 and batch > 1:
        mask = mask.expand(batch, *mask.shape[1:])
    return replace(call, mask=mask)


@contextmanager
def _projecting_once(anatomy: Anatomy, attention: nn.Module, rows: int) -> Iterator[None]:
    """Inside, linear parts of an attention module are given the first of `rows` equal rows, and answer for all."""

    def narrow(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return ((args[0][:1], *args[1:]), kwargs) if args and args[0].shape[0] == rows else None

    def widen(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.expand(rows, *output.shape[1:]).contiguous() if output.shape[0] == 1 else output

    with Hooks(anatomy, in_bypassed=True) as hooks:
        for part in attention.modules():
            if isinstance(part, nn.Linear):
                hooks.before(part, narrow)
                hooks.after(part, widen)
        yield


@contextmanager
def _handing_on(anatomy: Anatomy, hidden: Any) -> Iterator[None]:
    """Inside, every layer answers `hidden`, whatever it is given."""
    with Hooks(anatomy, in_bypassed=True) as hooks:
        for layer in anatomy.layers:
            hooks.shadow(layer, "forward", lambda _: lambda *args, **kwargs: hidden)
        yield


def _plain_token(anatomy: Anatomy) -> int:
    special = anatomy.image_token_ids | anatomy.video_token_ids | anatomy.audio_token_ids | {anatomy.pad_token_id}
    return next(token for token in range(3, 3 + len(special) + 1) if token not in special)


def _is_padding_mask(name: str, value: Any) -> bool:
    return "mask" in name and isinstance(value, Tensor) and value.dim() <= 2
