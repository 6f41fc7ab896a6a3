"""What is done at the attention of each layer: edits, the model's kernel or the edited rows, then readers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionCall, AttentionFunction
from sightline.attention.edited_row import RowChange, RowSight, edited_row
from sightline.attention.edits import Edit, EditedCall
from sightline.attention.hooks import Hooks
from sightline.attention.ownership import OwnRows
from sightline.attention.passes import ForwardPass
from sightline.attention.roles import Editor, LayerPruner, Reader, RowEditor
from sightline.attention.row_buffer import Row
from sightline.errors import ModelError
from sightline.models.anatomy import Anatomy


def decoder_attentions(anatomy: Anatomy) -> dict[int, nn.Module]:
    """The attention modules of the decoder by layer.

    Raises:
        ModelError: for layers that share one.
    """
    modules = {layer: module for layer, module in enumerate(anatomy.attentions) if module is not None}
    if len({id(module) for module in modules.values()}) < len(anatomy.attention_layers):
        kind = type(anatomy.model).__name__
        raise ModelError(
            f"Layers of {kind} share one attention module, and what it computes can't be told apart by layer."
        )
    return modules


_Take = Callable[[int, Row, ForwardPass], None]
_RowPlan = tuple[tuple[_Take, ...], list[RowSight], tuple[list[RowChange], list[RowChange]]]
"""At a layer's decoding rows: who takes them unread; or who sees their scores, and the changes of those and of their
weights."""


class Attending:
    """The handler of a session's attention modules.

    step: the pass that the decoder is in. dropper: who drops positions between layers, if any.
    """

    def __init__(self, modules: Mapping[int, nn.Module]) -> None:
        self.step: ForwardPass | None = None
        self.dropper: LayerPruner | None = None
        self._modules = modules
        self._layers = {id(module): layer for layer, module in modules.items()}
        self._readers: list[tuple[Reader, frozenset[int]]] = []
        self._editors: list[tuple[Editor, frozenset[int]]] = []
        self._by_layer: dict[int, tuple[tuple[Editor, ...], tuple[Reader, ...]]] = {}
        self._rows: OwnRows | None = None
        self._planned: dict[int, _RowPlan] | None = None
        self._plans: dict[int, _RowPlan] = {}
        self._intercepted: set[int] = set()
        self._seen: set[int] = set()

    def add(
        self,
        reader: Reader | None,
        editor: Editor | None,
        dropper: LayerPruner | None,
        layers: Collection[int] | None = None,
    ) -> None:
        """Take on who reads, edits or drops, and at which layers (by default all)."""
        wanted = frozenset(self._modules if layers is None else layers)
        if reader is not None:
            self._readers.append((reader, wanted))
        if editor is not None:
            self._editors.append((editor, wanted))
        if dropper is not None:
            self.dropper = dropper
        self._arrange()

    def remove(self, reader: Reader | None, editor: Editor | None, dropper: LayerPruner | None) -> None:
        """Let go of them."""
        self._readers = [each for each in self._readers if each[0] is not reader]
        self._editors = [each for each in self._editors if each[0] is not editor]
        if dropper is not None:
            self.dropper = None
        self._arrange()

    def intercept(self, hooks: Hooks) -> None:
        """Let `hooks` ask here for the layers that something is for; those of before stay."""
        new = sorted(self._by_layer.keys() - self._intercepted)
        if new:
            hooks.intercept([self._modules[layer] for layer in new], self)
            self._intercepted.update(new)

    def begin(self, step: ForwardPass, rows: OwnRows | None = None) -> None:
        """The decoder is entered. rows: those of the pass, where others stand beside them."""
        for editor, _ in self._editors:
            editor.begin(step)
        for reader, _ in self._readers:
            reader.begin(step)
        if self.dropper is not None:
            self.dropper.begin(step)
        self.step, self._rows = step, rows
        is_row = step.is_decoding and step.length == 1 and step.offset > 0
        if self._planned is None or not is_row:
            self._planned = self._row_plans(step) if is_row or step.is_start else {}
        self._plans = {} if torch.is_grad_enabled() else self._planned
        if not is_row:
            self._planned = None
        self._seen.clear()

    @property
    def spares_start(self) -> bool:
        """Whether every editor leaves rows up to a prompt's last image token as they are."""
        return all(getattr(editor, "spares_start", False) for editor, _ in self._editors)

    def end(self) -> set[int]:
        """The pass is over; returns the layers that should have been seen in it and were not."""
        step, self.step = self.step, None
        if step is None:
            return set()
        for reader, _ in self._readers:
            reader.end(step)
        if self.dropper is not None:
            self.dropper.end(step)
        return self._by_layer.keys() - self._seen

    def __call__(
        self, original: AttentionFunction, implementation: str, module: nn.Module, query: Tensor, key: Tensor,
        value: Tensor, attention_mask: Any = None, **options: Any,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """The attention of one layer."""
        # Gradient checkpointing computes a layer again outside the model's forward pass: nothing is read twice.
        if self.step is None or self._layers[id(module)] not in self._by_layer:
            return original(module, query, key, value, attention_mask, **options)
        if self._rows is None:
            return self._attend(original, implementation, module, query, key, value, attention_mask, options)
        own, others = self._rows.split(query, key, value, mask=attention_mask, options=options)
        output, _ = self._attend(original, implementation, module, *own)
        beside, _ = original(module, *others[:-1], **others[-1])
        return torch.cat([output, beside]), None

    def _attend(
        self, original: AttentionFunction, implementation: str, module: nn.Module, query: Tensor, key: Tensor,
        value: Tensor, attention_mask: Any, options: Mapping[str, Any],
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        step, layer = self.step, self._layers[id(module)]
        assert step is not None
        self._seen.add(layer)
        plan = self._plans.get(layer)
        if plan is not None:
            takers, sights, changes = plan
            if not any(changes):
                for take in takers:
                    row = (module, query, key, value, attention_mask, implementation, original, options, step.offset)
                    take(layer, row, step)
                return original(module, query, key, value, attention_mask, **options)
            edited = edited_row(
                layer, step, sights, changes, implementation, query[:, :, -1:], key, value, attention_mask, options
            )
            if edited is not None and step.length > 1:
                output, _ = original(module, query, key, value, attention_mask, **options)
                output[:, -1:] = edited
                return output, None
            if edited is not None:
                return edited, None
        editors, readers = self._by_layer[layer]
        call = AttentionCall(
            module, query, key, value, attention_mask, implementation, original, options, offset=step.offset
        )
        dropper, subset = self.dropper, None
        if dropper is not None and (editors or readers):
            subset = dropper.subset(layer)
            call = call if subset is None else subset.scatter_call(call)
        edits: tuple[Edit, ...] = ()
        if editors:
            edits = tuple([edit for editor in editors if (edit := editor.edit(layer, call, step)) is not None])
        shown = EditedCall(call, edits)
        weights: Tensor | None = None
        if edits:
            output = shown.output()
            output = output if subset is None else subset.gather_output(output, int(query.shape[2]))
        else:
            output, weights = original(module, query, key, value, attention_mask, **options)
        if readers or dropper is not None:
            # What is only looked at must not enter the graph that a backward pass goes through.
            if torch.is_grad_enabled():
                with torch.no_grad():
                    self._show(layer, shown, step, readers)
            else:
                self._show(layer, shown, step, readers)
        return output, weights

    def _show(self, layer: int, shown: EditedCall, step: ForwardPass, readers: tuple[Reader, ...]) -> None:
        for reader in readers:
            reader.read(layer, shown, step)
        if self.dropper is not None:
            self.dropper.read(layer, shown, step)

    def _row_plans(self, step: ForwardPass) -> dict[int, _RowPlan]:
        """By layer, what is done to each decoding row, or to a prompt's last; other layers need the whole call."""
        plans = {}
        for layer, (editors, readers) in self._by_layer.items() if self.dropper is None else ():
            if step.is_start and (readers or not all(_changes_last(editor, step) for editor in editors)):
                continue
            stages = [edits.row_stage(layer, step) if isinstance(edits, RowEditor) else None for edits in editors]
            scores, weights = (
                [editor.edit_row for editor, stage in zip(editors, stages, strict=True) if stage == wanted]  # type: ignore[attr-defined]
                for wanted in ("scores", "weights")
            )
            takers = tuple(take for reader in readers if (take := getattr(reader, "take_row", None)) is not None)
            if None not in stages and not (readers and (scores or weights)) and len(takers) == len(readers):
                sights = [see for editor in editors if (see := getattr(editor, "see_row", None)) is not None]
                plans[layer] = takers, sights, (scores, weights)
        return plans

    def _arrange(self) -> None:
        self._by_layer, self._planned, self._plans = {}, None, {}
        for layer in self._modules:
            editors = tuple(editor for editor, layers in self._editors if layer in layers)
            readers = tuple(reader for reader, layers in self._readers if layer in layers)
            if editors or readers or self.dropper is not None:
                self._by_layer[layer] = editors, readers


def _changes_last(editor: Editor, step: ForwardPass) -> bool:
    changes_last: Callable[[ForwardPass], bool] | None = getattr(editor, "changes_last", None)
    return changes_last is not None and changes_last(step)
