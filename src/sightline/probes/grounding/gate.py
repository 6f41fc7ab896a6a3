"""A grounded-attention gate: words look at the image features once more, and what they see enters the layer.

    h'_t = h_t + O softmax(q_t K^T / sqrt(d)) V        q_t = Q even(h_t),  K = W_k even(v),  V = W_v even(v)

h_t is the hidden state of text token t behind the layer, v the projected image features before the token, `even` brings
a vector to a root mean square of 1. O begins at zero, so that the model is what it was until something is learned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, ModelError
from sightline.methods.base import anatomy_and_layout
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.loading import CHECKPOINTING
from sightline.probes.grounding.form import ScoreForm
from sightline.probes.grounding.head import even
from sightline.probes.grounding.image import ImageTap, require_sight, take_rows, words_of
from sightline.probes.grounding.saved import read_saved, read_weights, save_part

NAME = "grounding_gate"
WHAT = "grounding gate"


class CrossAttentionGate(nn.Module):
    """One layer's gate: cross-attention of words to image features."""

    def __init__(self, hidden_size: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden_size, width, bias=False)
        self.key = nn.Linear(hidden_size, width, bias=False)
        self.value = nn.Linear(hidden_size, width, bias=False)
        self.output = nn.Linear(width, hidden_size, bias=False)
        nn.init.zeros_(self.output.weight)

    def keys_and_values(self, features: Float[Tensor, "patches hidden"]) -> tuple[Tensor, Tensor]:
        """[heads, patches, head width] each."""
        flat = even(features.to(self.key.weight.dtype))
        return self._by_head(self.key(flat)), self._by_head(self.value(flat))

    def forward(
        self,
        words: Float[Tensor, "words hidden"],
        keys: Float[Tensor, "heads patches width"],
        values: Float[Tensor, "heads patches width"],
        seen: Bool[Tensor, "words patches"],
    ) -> Float[Tensor, "words hidden"]:
        """What enters the residual stream; 0 for a word that sees no patch."""
        query = self._by_head(self.query(even(words.to(self.query.weight.dtype))))
        is_blind = ~seen.any(1)
        mask = seen | is_blind[:, None]
        looked = torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask[None])
        return self.output(looked.transpose(0, 1).flatten(1)).masked_fill(is_blind[:, None], 0.0)  # type: ignore[no-any-return]

    def _by_head(self, values: Tensor) -> Tensor:
        return values.reshape(len(values), self.heads, -1).transpose(0, 1)


class GroundedGate(nn.Module):
    """Gates behind chosen layers of a model, as a module of their own: the model's weights are left alone.

        gate = GroundedGate.for_model(vlm, layers="last4")
        with gate.on(vlm):
            ...                                   # train gate.parameters(), measure, generate
        gate.save(folder)                         # beside the model

    All its parameters are trainable and float32. It acts inside `on` alone, also while an answer is generated, where
    the words go on looking at the prompt's image; a second pass of another method (VCD, PAI) runs without it.
    """

    def __init__(self, layers: Sequence[int], hidden_size: int, width: int, heads: int = 4) -> None:
        super().__init__()
        if width < 1 or heads < 1 or width % heads:
            raise InputError(f"A grounding gate of width {width} can't have {heads} heads: give a multiple.")
        self.layers, self.hidden_size, self.width, self.heads = tuple(layers), hidden_size, width, heads
        self.looks = nn.ModuleList(CrossAttentionGate(hidden_size, width, heads) for _ in self.layers)

    @classmethod
    def for_model(
        cls, model: Any, layers: str = "last4", width: int | None = None, heads: int = 4, seed: int = 0
    ) -> GroundedGate:
        """A fresh gate on the model's device.

        Args:
            model: a `VLM` or a bare Transformers model.
            layers: as in `Grounding`.
            width: of all heads together; by default an eighth of the hidden size.

        Raises:
            InputError: for a layer that the model has not, a width that heads do not divide, a model without images.
        """
        anatomy, _ = anatomy_and_layout(model, None)
        require_sight("the gate", anatomy)
        chosen = ScoreForm(layers).chosen_layers(anatomy)
        size = anatomy.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            gate = cls(chosen, size, width or max(1, size // (8 * heads)) * heads, heads)
        return gate.to(next(anatomy.model.parameters()).device)

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside; afterwards the model is as it was.

        Raises:
            InputError: for a model of another hidden size or with fewer layers.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        if anatomy.hidden_size != self.hidden_size or self.layers[-1] >= len(anatomy.layers):
            raise InputError(
                f"The grounding gate is for hidden size {self.hidden_size} and layers up to {self.layers[-1]}, and the "
                f"model has hidden size {anatomy.hidden_size} and layers 0 to {len(anatomy.layers) - 1}: use the gate "
                "that was trained with this model."
            )
        acting = _GateHooks(self, anatomy)
        with attach(anatomy, reader=acting, layout=source, layers=()), acting.hooked():
            yield

    def save(self, folder: str | Path) -> None:
        """Write grounding_gate.safetensors and grounding_gate.json into a folder, as beside the model."""
        settings = {
            "layers": list(self.layers),
            "hidden_size": self.hidden_size,
            "width": self.width,
            "heads": self.heads,
        }
        save_part(self, settings, folder, NAME)

    @classmethod
    def load(cls, folder: str | Path) -> GroundedGate:
        """The gate that lies in a folder.

        Raises:
            InputError: where there is none, or its files are torn or do not fit together.
        """
        settings = read_saved(folder, NAME, WHAT)
        try:
            gate = cls(**settings)
        except TypeError:
            raise InputError(f"{Path(folder) / NAME}.json holds no settings of a {WHAT}: save one anew.") from None
        read_weights(gate, folder, NAME, WHAT)
        return gate


@dataclass
class _Pass:
    """words: [batch, positions of the pass], bool, on the CPU; where: their positions in the sequence, by sample."""

    words: Tensor
    counts: list[int]
    where: list[Tensor]


class _GateHooks:
    """What a gate does to one model inside a `with`.

    A checkpointed layer is computed twice, in some versions of Transformers with its hooks. The gate stands outside of
    the checkpoint: it is put behind the layer's checkpointing function for as long as a pass lasts.
    """

    def __init__(self, gate: GroundedGate, anatomy: Anatomy) -> None:
        self._gate, self._anatomy = gate, anatomy
        self._tap = ImageTap(anatomy)
        self._pass: _Pass | None = None
        self._kept: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._checkpoints = Hooks(anatomy)
        self._checkpointed: set[int] = set()

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""
        self._restore()
        self._tap.begin(step)
        if not step.is_decoding:
            self._kept.clear()
        words = words_of(step, is_whole=True)
        where = [row.nonzero()[:, 0] + step.offset for row in words]
        self._pass = _Pass(words, [len(part) for part in where], where)
        for number, index in enumerate(self._gate.layers):
            layer: Any = self._anatomy.layers[index]
            if getattr(layer, "gradient_checkpointing", False) and layer.training:
                self._checkpoints.shadow(layer, CHECKPOINTING, functools.partial(self._behind_checkpoint, number))
                self._checkpointed.add(number)

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Attention is not looked at."""

    def end(self, step: ForwardPass) -> None:
        """The pass is over."""
        self._restore()
        self._tap.end()
        self._pass = None

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Inside, the hooks are in place."""
        with self._tap.hooked(), Hooks(self._anatomy) as hooks:
            for number, layer in enumerate(self._gate.layers):
                hooks.after(self._anatomy.layers[layer], self._leaving(number))
            try:
                yield
            finally:
                self._restore()

    def _behind_checkpoint(self, number: int, run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **inputs: self._opened(number, run(*args, **inputs))

    def _restore(self) -> None:
        self._checkpoints.close()
        self._checkpointed.clear()

    def _leaving(self, number: int) -> Callable[[nn.Module, Any, Any], Any]:
        def leave(module: nn.Module, args: Any, output: Any) -> Any:
            return None if number in self._checkpointed else self._opened(number, output)

        return leave

    def _opened(self, number: int, output: Any) -> Any:
        """The layer's output with what the words see."""
        current = self._pass
        if current is None or self._tap.step is None or not self._tap.is_ready:
            return output
        hidden: Tensor = output if isinstance(output, Tensor) else output[0]
        if hidden.dim() != 3:
            kind = type(self._anatomy.model).__name__
            raise ModelError(
                f"Layers of {kind} keep several states a token, and it is not known which to open a gate on."
            )
        look, parts = self._gate.looks[number], []
        words = torch.split(take_rows(hidden, current.words), current.counts)
        seeing = zip(words, current.where, self._tap.images.positions, self._keys(number), strict=True)
        for mine, where, patches, (keys, values) in seeing:
            if not len(mine) or not len(patches):
                parts.append(torch.zeros_like(mine))
                continue
            seen = (patches[None] < where[:, None]).to(keys.device)
            # The layer may lie on another device than the embedding, where the gate is.
            parts.append(look(mine.to(keys.device), keys, values, seen).to(mine))
        index = current.words.flatten().nonzero()[:, 0].to(hidden.device, non_blocking=True)
        opened = hidden.flatten(0, 1).index_add(0, index, torch.cat(parts)).reshape(hidden.shape)
        return opened if isinstance(output, Tensor) else (opened, *output[1:])

    def _keys(self, number: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the prompt's image, by sample; kept while an answer is generated."""
        kept = self._kept.get(number)
        if kept is None:
            look: Any = self._gate.looks[number]
            kept = [look.keys_and_values(features) for features in self._tap.images.features]
            if not torch.is_grad_enabled():
                self._kept[number] = kept
        return kept
