"""What a forward pass did at one row, layer by layer: enough to run any layer again for rows in that row's place.

A layer is run again by its own forward, with the arguments it was given, cut to the row. So norms before and after,
gates, experts, parallel blocks, features added by layer and rotary positions are the model's own in every family.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionCall
from sightline.attention.hooks import Hooks
from sightline.attention.knockout import RowAttention
from sightline.attention.override import AttentionOverride
from sightline.errors import ModelError
from sightline.knockout.layer_pass import LayerPass, WholePass, narrow
from sightline.models.anatomy import Anatomy


@dataclass
class Capture:
    """Fills `layers` while the model runs; read at row `row` of the pass, the last where it is negative.

    present: [positions], False where padding; None for all. keep_whole: keep all positions' states and arguments too.
    has_feedback: whether a row before sees the row or one
    after it, or the row sees one after it; then what changes at the row changes others that it reads.
    """

    anatomy: Anatomy
    row: int = -1
    present: Tensor | None = None
    keep_whole: bool = False
    layers: list[LayerPass] = field(default_factory=list)
    logits: Tensor | None = None
    has_feedback: bool = False
    positions: int = 0
    offset: int = 0
    empty_cache: Any = None
    input_ids: Tensor | None = None
    _narrowed: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    _checked: dict[int, Any] = field(default_factory=dict)
    _before: Any = None
    _is_paused: bool = False

    @contextmanager
    def reading(self, override: AttentionOverride, model: nn.Module) -> Iterator[None]:
        """Inside, each forward pass of `model` is captured, in place of the one before."""
        with Hooks(self.anatomy, in_bypassed=True) as hooks, override.by(self._attend):
            for index, layer in enumerate(self.anatomy.layers):
                hooks.before(layer, self._entering(index))
                hooks.after(layer, self._leaving(index))
            hooks.after(model, self._answered)
            if self.anatomy.head is not None:
                hooks.before(self.anatomy.head, self._narrow_head)
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, what runs is not captured."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def moved(self, row: int) -> Capture:
        """The same pass read at another row; all positions must have been kept."""
        moved = replace(self, row=row, layers=[], logits=None, _narrowed={})
        for layer in self.layers:
            whole = layer.whole
            if whole is None or whole.output is None:
                raise ModelError(f"Layer {layer.index} was read at one row only.")
            inputs = {name: moved._cut(value) for name, value in whole.inputs.items() if name != layer.sharing}
            there = replace(
                layer,
                inputs=inputs,
                hidden=_at(whole.hidden, row),
                output=_at(whole.output, row),
                added=None if whole.added is None else _at(whole.added, row),
                row=None if whole.call is None else RowAttention.of(whole.call, row),
                positions_after=self.positions - 1 - row,
            )
            moved.layers.append(there)
        moved.forget()
        return moved

    def forget(self) -> None:
        """Let go of what only the pass itself needed."""
        self._narrowed, self._checked, self._before = {}, {}, None

    def _start(self, hidden: Tensor, inputs: Mapping[str, Any], caches: tuple[str, ...]) -> None:
        self.layers, self.logits, self.has_feedback = [], None, False
        self.forget()
        self.positions = int(hidden.shape[-2])
        cache = inputs[caches[0]] if caches else None
        self.offset = 0 if cache is None else int(cache.get_seq_length(self.anatomy.attention_layers[0]))
        self.empty_cache = copy.deepcopy(cache) if cache is not None and not self.offset else self.empty_cache
        without = [layer for layer, attention in enumerate(self.anatomy.attentions) if attention is None]
        if cache is not None and self.offset and without and hasattr(cache, "layers"):
            # States are overwritten in place as the pass goes on; keys are only ever added.
            self._before = copy.copy(cache)
            self._before.layers = [
                copy.deepcopy(layer) if number in without else layer for number, layer in enumerate(cache.layers)
            ]

    @property
    def at(self) -> int:
        """The row's index in the pass."""
        return self.row if self.row >= 0 else self.positions + self.row

    def _entering(self, index: int) -> Callable[..., None]:
        module = self.anatomy.layers[index]
        names = [name for name in inspect.signature(inspect.unwrap(type(module).forward)).parameters if name != "self"]

        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._is_paused:
                return
            inputs = dict(zip(names, args, strict=False)) | kwargs
            hidden = inputs.pop(names[0])
            caches = tuple(name for name, value in inputs.items() if hasattr(value, "get_seq_length"))
            if index == 0:
                self._start(hidden, inputs, caches)
            elif self.layers:
                _note_added(self.layers[-1], hidden, self.at)
            sharing = next((name for name, value in inputs.items() if _is_shared(name, value)), None)
            inputs.update(dict.fromkeys(caches), **({"use_cache": False} if "use_cache" in inputs else {}))
            self.layers.append(
                LayerPass(
                    index=index,
                    module=module,
                    inputs={name: self._cut(value) for name, value in inputs.items() if name != sharing},
                    caches=caches,
                    hidden=_at(hidden, self.at),
                    sharing=sharing,
                    before=self._before,
                    whole=WholePass(hidden.clone(), inputs) if self._keeps(index) else None,
                    shared_whole=inputs[sharing] if sharing else None,
                    positions_after=self.positions - 1 - self.at,
                )
            )

        return enter

    def _keeps(self, index: int) -> bool:
        return not self.offset and (self.keep_whole or self.anatomy.attentions[index] is None)

    def _leaving(self, index: int) -> Callable[..., None]:
        def leave(_: nn.Module, args: Any, output: Any) -> None:
            if self._is_paused:
                return
            layer = self.layers[index]
            layer.in_tuple = isinstance(output, tuple)
            output = output[0] if layer.in_tuple else output
            layer.output = _at(output, self.at)
            if layer.whole is not None and self.keep_whole:
                layer.whole.output = output.clone()

        return leave

    def _answered(self, _: nn.Module, args: Any, output: Any) -> None:
        if self._is_paused:
            return
        logits = getattr(output, "logits", None)
        if logits is not None:
            self.logits = logits[0, 0 if logits.shape[1] == 1 else self.at].clone()
        self.forget()

    def _narrow_head(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Logits of the row alone: those of all positions can take more memory than all else."""
        if self._is_paused:
            return None
        states = args[0] if args else None
        if not isinstance(states, Tensor) or states.dim() != 3 or states.shape[1] != self.positions:
            return None
        return (states[:, self.at : self.at + 1], *args[1:]), kwargs

    def _attend(self, layer: int, call: AttentionCall) -> None:
        if self._is_paused:
            return
        call = replace(call, offset=self.offset)
        taken = self.layers[layer]
        taken.row = RowAttention.of(call, self.at)
        if taken.whole is not None:
            taken.whole.call = call
        if id(call.mask) not in self._checked:
            self._checked[id(call.mask)] = call.mask
            self.has_feedback = self.has_feedback or self._feeds_back(call)

    def _feeds_back(self, call: AttentionCall, rows_at_once: int = 256) -> bool:
        """Whether the row sees what comes after it, or a row before sees the row or what comes after."""
        if call.queries == 1:
            return False
        own = call.offset + self.at - call.first_key
        after = call.visible(torch.tensor([self.at], device=call.query.device))[..., own + 1 :]
        if bool(after.any()):
            return True
        # Rows of padding may see anything; no row reads them.
        rows = torch.arange(self.at) if self.present is None else self.present[: self.at].nonzero()[:, 0]
        blocks = torch.split(rows.to(call.query.device), rows_at_once)
        return any(bool(call.visible(block)[..., own:].any()) for block in blocks if len(block))

    def _cut(self, value: Any) -> Any:
        """An argument cut to the row; layers that share one share its cut."""
        if isinstance(value, tuple | list):
            return type(value)(self._cut(part) for part in value)
        if not isinstance(value, Tensor) or self.positions == 1:
            return value
        if id(value) not in self._narrowed:
            self._narrowed[id(value)] = value, narrow(value, self.positions, self.at)
        return self._narrowed[id(value)][1]


def _at(hidden: Tensor, row: int) -> Tensor:
    """States are [..., batch, positions, width] in every family."""
    return hidden.narrow(-2, row, 1).clone()


def _note_added(layer: LayerPass, entering: Tensor, row: int) -> None:
    """What the decoder adds between two layers, such as vision features injected into the deeper ones."""
    if layer.output is None or layer.output.shape != entering.narrow(-2, row, 1).shape:
        return
    difference = entering.narrow(-2, row, 1) - layer.output
    layer.added = difference if bool(difference.any()) else None
    if layer.whole is not None and layer.whole.output is not None:
        whole = entering - layer.whole.output
        layer.whole.added = whole if bool(whole.any()) else None


def _is_shared(name: str, value: Any) -> bool:
    return "shared" in name and hasattr(value, "items") and hasattr(value, "__setitem__")
