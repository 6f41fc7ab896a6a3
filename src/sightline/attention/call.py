"""One attention call of a model: its tensors, and which keys each query row may see.

Every implementation of Transformers says "hidden" in its own way: SDPA by a boolean mask or by none (then causal),
eager by a float mask, FlashAttention by the padding alone plus `sliding_window`, FlexAttention by a block mask.
`AttentionCall` reads them all for a few query rows at a time, so that no square of the sequence is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sightline.errors import ModelError

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

# A float mask hides by its dtype's lowest number, or by minus infinity; sums of two masks may halve or double it.
_HIDDEN_BELOW = -1e4

_KNOWN_TENSORS = {
    "position_bias",
    "s_aux",
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "max_length_q",
    "max_length_k",
    "cu_seqlens",
}
"""Options that are read here, or that say of packed sequences what the mask says as well."""

_PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""What FlashAttention gets of packed sequences; all of them, or none counts."""

_SELECTIONS = {"indices", "block_indices", "sparse_indices"}
"""Keys that an indexer has selected; eager and SDPA kernels get a mask that hides the others as well."""


@dataclass(frozen=True)
class AttentionCall:
    """What a decoder layer handed to its attention function.

    query: [batch, heads, queries, head_dim]; key, value: [batch, key_value_heads, keys, head_dim], rotary positions
    applied. mask: as the implementation's mask function made it. options: the remaining keyword arguments (scaling,
    softcap, sliding_window, s_aux, ...). offset: absolute position of the first query; first_key: of the first key
    (above 0 where a sliding-window cache has dropped the oldest keys).
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    implementation: str
    original: AttentionFunction
    options: Mapping[str, Any] = field(default_factory=dict)
    offset: int = 0

    def __post_init__(self) -> None:
        for name, value in self.options.items():
            if isinstance(value, Tensor) and not self._is_known(name, value):
                raise ModelError(
                    f"{type(self.module).__name__} hands its attention ({self.implementation}) a tensor '{name}' that "
                    "Sightline does not know, so what the kernel makes of it can't be read: load the model with sdpa "
                    "or eager attention."
                )

    def _is_known(self, name: str, value: Tensor) -> bool:
        if name in _SELECTIONS:
            return self.implementation in ("eager", "sdpa")
        # Numbers, and token and position ids that a forward hands on to all its parts, change no weights.
        return name in _KNOWN_TENSORS or value.dim() == 0 or name.endswith("_ids")

    @property
    def queries(self) -> int:
        """Number of query rows."""
        return int(self.query.shape[2])

    @property
    def keys(self) -> int:
        """Number of keys that are filled: a static cache hands over room for the future too."""
        return min(int(self.key.shape[2]), self.offset + self.queries)

    @property
    def first_key(self) -> int:
        """Absolute position of key 0. Above 0 where a sliding-window cache has dropped the oldest keys."""
        return max(0, self.offset + self.queries - int(self.key.shape[2]))

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return int(self.query.shape[1])

    @property
    def group_size(self) -> int:
        """Query heads per key/value head."""
        return self.heads // int(self.key.shape[1])

    @property
    def scaling(self) -> float:
        """The factor on query times key."""
        given = self.options.get("scaling")
        return float(given) if given is not None else float(self.query.shape[-1]) ** -0.5

    @property
    def softcap(self) -> float | None:
        """Scores are `softcap * tanh(score / softcap)`; None where they are not capped."""
        # SDPA caps no scores: older versions of Transformers left a model's cap out without a word.
        given = None if self.implementation == "sdpa" else self.options.get("softcap")
        return None if given is None else float(given)

    @property
    def is_bare(self) -> bool:
        """Whether weights are softmax(scaling * q . k) over the keys that a row sees, by one mask for all heads.

        Then the kernel computes what other queries or keys come to; not where it runs on some of the positions.
        """
        mask = self.mask
        is_for_all = not isinstance(mask, Tensor) or mask.dim() < 4 or (mask.dtype == torch.bool and mask.shape[1] == 1)
        return (
            is_for_all
            and not hasattr(mask, "mask_mod")
            and self.softcap is None
            and int(self.key.shape[2]) == self.keys
            and not any(isinstance(self.options.get(name), Tensor) for name in ("position_bias", "s_aux"))
        )

    def first_rows(self, count: int) -> AttentionCall | None:
        """The first rows with as many keys, where they surely see no others: a whole prompt without a mask."""
        if self.mask is not None or self.implementation != "sdpa" or not _is_causal(self) or self.offset:
            return None
        query, key, value = (each[:, :, :count] for each in (self.query, self.key, self.value))
        return replace(self, query=query, key=key, value=value)

    def run(self, value: Tensor | None = None) -> Tensor:
        """The model's own attention, bit for bit, maybe over other values: [batch, queries, heads, value_dim]."""
        used = self.value if value is None else value
        output, _ = self.original(self.module, self.query, self.key, used, self.mask, **self.options)
        return output

    def slice_heads(self, start: int, stop: int) -> AttentionCall:
        """The same call for key/value heads start to stop and the query heads that use them."""
        group = self.group_size
        mask, options = self.mask, dict(self.options)
        if isinstance(mask, Tensor) and mask.dim() == 4 and mask.shape[1] > 1:
            mask = mask[:, start * group : stop * group]
        for name in ("position_bias", "s_aux"):
            given = options.get(name)
            if isinstance(given, Tensor):
                axis = 0 if name == "s_aux" else given.dim() - 3
                if axis >= 0 and given.shape[axis] == self.heads:
                    options[name] = given.narrow(axis, start * group, (stop - start) * group)
        return replace(
            self,
            query=self.query[:, start * group : stop * group],
            key=self.key[:, start:stop],
            value=self.value[:, start:stop],
            mask=mask,
            options=options,
        )

    @property
    def is_open(self) -> bool:
        """Whether every row sees every key, without asking for a mask: one row that decodes, without padding."""
        return self.mask is None and "flash" not in self.implementation and self.queries == 1

    def visible(self, rows: Int[Tensor, " rows"]) -> Bool[Tensor, "batch heads rows keys"]:
        """Which of the `keys` each of these query rows may see (heads may be 1: shared by all)."""
        return visible_keys(self, rows)

    def bias(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "batch heads rows keys"] | None:
        """What is added to the scores besides hiding: position biases and finite entries of a float mask, or None."""
        keys = self.keys
        total: Tensor | None = None
        if isinstance(self.mask, Tensor) and self.mask.dim() == 4 and self.mask.dtype.is_floating_point:
            block = self.mask[:, :, rows, :keys].float()
            finite = block.masked_fill(block <= _HIDDEN_BELOW, 0.0)
            # A mask of zeros and lowest numbers adds nothing; then the addition is spared.
            if bool(finite.any()):
                total = finite
        position = self.options.get("position_bias")
        if isinstance(position, Tensor):
            addend = position[..., rows, :keys].float()
            while addend.dim() < 4:
                addend = addend.unsqueeze(0)
            total = addend if total is None else total + addend
        return total


def visible_keys(call: AttentionCall, rows: Int[Tensor, " rows"]) -> Bool[Tensor, "batch heads rows keys"]:
    """Which keys the given rows see, whatever the form of the mask."""
    mask, keys = call.mask, call.keys
    if isinstance(mask, Tensor) and mask.dim() == 4:
        block = mask[:, :, rows, :keys]
        return block if block.dtype == torch.bool else block > _HIDDEN_BELOW
    if hasattr(mask, "mask_mod"):
        return _from_block_mask(call, rows)
    if mask is None and "flash" not in call.implementation:
        return _from_no_mask(call, rows)
    return _from_padding(call, rows)


def _is_causal(call: AttentionCall) -> bool:
    given = call.options.get("is_causal")
    return bool(given if given is not None else getattr(call.module, "is_causal", True))


def _from_no_mask(call: AttentionCall, rows: Tensor) -> Tensor:
    """SDPA without a mask is causal from the upper left for several rows; eager without one hides nothing."""
    index = torch.arange(call.keys, device=call.query.device)
    if call.implementation == "eager" or call.queries == 1 or not _is_causal(call):
        return index.new_ones((1, 1, len(rows), call.keys), dtype=torch.bool)
    return (index[None, :] <= rows[:, None])[None, None]


def _from_padding(call: AttentionCall, rows: Tensor) -> Tensor:
    """FlashAttention: causal from the lower right, a window to the left; a padding mask over the keys or none.

    Without one, sequences that are packed into one row see their own keys alone.
    """
    device = call.query.device
    position = rows.to(device) + call.offset
    key = torch.arange(call.keys, device=device) + call.first_key
    seen = torch.ones((len(rows), call.keys), dtype=torch.bool, device=device)
    if _is_causal(call):
        seen = key[None, :] <= position[:, None]
        window = call.options.get("sliding_window")
        if window is not None:
            seen = seen & (key[None, :] > position[:, None] - int(window))
    seen = seen[None, None]
    if isinstance(call.mask, Tensor):
        return seen & call.mask[:, None, None, -call.keys :].bool()
    sequence = packed_sequences(call)
    return seen if sequence is None else seen & (sequence[rows.to(device)][:, None] == sequence[None, :])


def packed_sequences(call: AttentionCall) -> Int[Tensor, " keys"] | None:
    """By key, which of several sequences packed into one row it belongs to; None where there is but one.

    FlashAttention alone has them from elsewhere than a mask: from `cu_seq_lens_*`, else from positions that start over.

    Raises:
        ModelError: where lengths are given along with a batch or a filled cache.
    """
    if "flash" not in call.implementation or call.mask is not None:
        return None
    if all(call.options.get(name) is not None for name in _PACKED):
        if call.query.shape[0] != 1 or call.queries != call.keys:
            raise ModelError(
                "Lengths of packed sequences (cu_seq_lens_q, cu_seq_lens_k) are read of one row without a cache: give "
                "prompts one by one, or padded."
            )
        begins = torch.zeros(call.keys + 1, dtype=torch.long, device=call.query.device)
        begins[call.options["cu_seq_lens_k"][:-1].long()] = 1
        return begins[:-1].cumsum(0)
    positions = call.options.get("position_ids")
    if not isinstance(positions, Tensor) or positions.shape != (1, call.keys) or call.query.shape[0] != 1:
        return None
    begins = (positions[0] == positions.min()).long()
    return begins.cumsum(0) if int(begins.sum()) > 1 else None


def _from_block_mask(call: AttentionCall, rows: Tensor) -> Tensor:
    """FlexAttention: its rule is called for each pair of the block."""
    device = call.query.device
    batch = torch.arange(call.query.shape[0], device=device)[:, None, None, None]
    head = torch.zeros((1, 1, 1, 1), dtype=torch.long, device=device)
    key = torch.arange(call.keys, device=device)[None, None, None, :]
    seen = call.mask.mask_mod(batch, head, rows.to(device)[None, None, :, None], key)
    return seen.expand(len(batch), 1, len(rows), call.keys)  # type: ignore[no-any-return]


def by_call(attend: Callable[[AttentionCall], Tensor | None]) -> AttentionFunction:
    """A handler of whole calls, for `Hooks.intercept`: what `attend` puts out, or None for the model's own function."""

    def handler(
        original: AttentionFunction,
        implementation: str,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        output = attend(AttentionCall(module, query, key, value, attention_mask, implementation, original, options))
        return original(module, query, key, value, attention_mask, **options) if output is None else (output, None)

    return handler
