"""MemVR: look twice before you answer (arXiv 2410.03577, ICML 2025; confirmed in its public code)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.generating import check_share
from sightline.methods.hidden import feed_forward, unembed
from sightline.methods.scoring import VISUAL, require_image
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality

FIRST, LAST, DEPTH = 6, 15, 32
"""The layers of the public code, which are those between 5 and 16, and the number of layers of its model."""

TOP = 10
"""Tokens whose probabilities the uncertainty is of."""


@register
@dataclass(frozen=True)
class MemVR(Method):
    """Where an intermediate layer is unsure of the next word, the next feed-forward part is shown the image again.

        u_l = H(the 10 largest probabilities of softmax(W_U norm(h_l)), scaled to sum to 1) / log 10
        the first layer l from first_layer to last_layer with u_l > threshold, once a pass, in layer l + 1:
        FFN(x) <- (1 - r) FFN(x) + r c (x V^T) V            c = mean |FFN(x)| / mean |(x V^T) V|

    h_l: [hidden], behind layer l at the last position; x: [positions, hidden], what enters the feed-forward part; V:
    [image tokens, hidden], the features that entered the language model. The public code also scales V to the mean
    weight of the part, which c undoes. Each row of a batch has its own u, c and layer. Layers are counted from 0: 6 to
    15 of 32, scaled to another depth. r = 0 changes nothing. Control: `random` = true puts noise in the place of V.
    """

    name: ClassVar[str] = "memvr"
    r: float = setting(0.12, "share of the image in the feed-forward part's output, 0 (none) to 1")
    threshold: float = setting(0.75, "uncertainty above which the image is shown again, 0 to 1")
    first_layer: int | None = setting(None, "first layer looked at; by default 6 of 32, scaled to the depth")
    last_layer: int | None = setting(None, "last layer looked at; by default 15 of 32, scaled to the depth")
    random: bool = setting(False, "a control: random features in the place of the image's")
    seed: int = setting(0, "of random features")

    def __post_init__(self) -> None:
        check_share(self.name, r=self.r, threshold=self.threshold)

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside.

        Raises:
            InputError: for a layer the model has not, and for a prompt without an image.
            ModelError: for a model whose feed-forward parts or unembedding are not found.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        layers = self.layers(anatomy)
        if not self.r:
            yield
            return
        retracing = _Retracing(self, anatomy)
        with Hooks(anatomy) as hooks:
            hooks.before(anatomy.layers[0], retracing.note_features)
            for layer in layers:
                hooks.after(anatomy.layers[layer], partial(retracing.look, layer))
                part = feed_forward(self.name, anatomy, layer + 1, whole=True)
                hooks.after(part, partial(retracing.show, layer + 1))
            with attach(anatomy, reader=retracing, layout=source, layers=()):
                yield

    def layers(self, anatomy: Anatomy) -> range:
        """Those that are looked at; behind the last layer nothing is left to change."""
        depth = len(anatomy.layers)
        first = round(FIRST * depth / DEPTH) if self.first_layer is None else self.first_layer
        last = min(depth - 2, round(LAST * depth / DEPTH)) if self.last_layer is None else self.last_layer
        for layer in (first, last):
            if not 0 <= layer < depth - 1:
                raise InputError(f"Layer {layer} is out of range in memvr: it looks at layers 0 to {depth - 2}.")
        return range(first, last + 1)


class _Retracing:
    """The state of one `with`."""

    def __init__(self, method: MemVR, anatomy: Anatomy) -> None:
        self._method, self._anatomy = method, anatomy
        self._step: ForwardPass | None = None
        self._features: list[Tensor] = []
        self._is_shown = self._was_shown = torch.zeros(0, dtype=torch.bool)

    def begin(self, step: ForwardPass) -> None:
        """No row was shown the image in this pass."""
        if step.is_start:
            require_image(self._method.name, step.layout)
        elif step.is_piece:
            raise InputError("memvr needs the whole prompt in one pass: leave prefill_chunk_size out.")
        elif not step.offset:
            raise InputError(
                "memvr shows the image once a pass and follows answers by a cache: leave use_cache=False out."
            )
        self._step = step
        self._is_shown = self._was_shown = torch.zeros(step.batch, dtype=torch.bool)

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Attention is no matter."""

    def end(self, step: ForwardPass) -> None:
        """The pass is over; the image's features stay."""
        self._step = None

    def note_features(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the first layer: each sample's image."""
        if self._step is None or not self._step.is_start:
            return
        state = (args[0] if args else kwargs["hidden_states"]).detach().float()
        image = self._step.layout.mask(*VISUAL).to(state.device)
        self._features = [mine[where] for mine, where in zip(state, image, strict=True)]
        if self._method.random:
            source = torch.Generator().manual_seed(self._method.seed)
            self._features = [torch.randn(part.shape, generator=source).to(part) for part in self._features]

    def look(self, layer: int, module: nn.Module, args: Any, output: Any) -> None:
        """Behind a layer: which rows are unsure for the first time in this pass?"""
        if self._step is None:
            return
        state = output if isinstance(output, Tensor) else output[0]
        rows = torch.arange(len(state), device=state.device)
        logits = unembed(self._anatomy, state[rows, self._ends(state)])
        unsure = uncertainty(logits).cpu() > self._method.threshold
        self._is_shown = unsure & ~self._was_shown
        self._was_shown = self._was_shown | unsure

    def show(self, layer: int, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """A feed-forward part's output, with the image in the rows that were unsure one layer before."""
        if self._step is None or not bool(self._is_shown.any()):
            return None
        whole = output if isinstance(output, Tensor) else output[0]
        batch = len(self._is_shown)
        x, out = (part.reshape(batch, -1, part.shape[-1]).float() for part in (args[0], whole))
        changed = out.clone()
        real = self._real(out.shape[1])
        shown = self._features * batch if len(self._features) == 1 else self._features
        if len(shown) != batch:
            raise InputError(
                "memvr can't find a row's image where a batch changes its size: give one prompt at a time."
            )
        for row in self._is_shown.nonzero()[:, 0].tolist():
            v = shown[row].to(x.device)
            if not len(v):
                continue
            changed[row] = seen_again(x[row], out[row], v, self._method.r, real[row])
        changed = changed.reshape(whole.shape).to(whole.dtype)
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    def _ends(self, state: Tensor) -> Tensor:
        """Each row's last position in this pass."""
        real = self._real(state.shape[1])
        return torch.where(real, torch.arange(state.shape[1]), -1).amax(1).to(state.device)

    def _real(self, length: int) -> Bool[Tensor, "batch positions"]:
        """Which positions of this pass are no padding."""
        step = self._step
        if step is None or step.offset:
            return torch.ones((len(self._is_shown), length), dtype=torch.bool)
        present = step.layout.modality != int(Modality.PADDING)
        return torch.nn.functional.pad(present, (0, length - present.shape[1]), value=True)


def seen_again(
    x: Float[Tensor, "positions hidden"],
    out: Float[Tensor, "positions hidden"],
    image: Float[Tensor, "tokens hidden"],
    r: float,
    real: Bool[Tensor, " positions"],
) -> Float[Tensor, "positions hidden"]:
    """FFN(x) above, of x and what the part put out; real: the positions that c is of."""
    again = x @ image.T @ image
    c = out[real].abs().mean() / again[real].abs().mean().clamp_min(1e-12)
    mixed: Tensor = (1 - r) * out + r * c * again
    return mixed


def uncertainty(logits: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, " rows"]:
    """u above, 0 (sure) to 1."""
    top = logits.softmax(-1).topk(min(TOP, logits.shape[-1])).values
    p = top / top.sum(-1, keepdim=True)
    return -(p * p.clamp_min(1e-12).log()).sum(-1) / math.log(TOP)
