"""One caller has a decoder's attention to itself, also where single layers are run by hand outside a pass of the model.

`attach` shows the attention of whole forward passes to methods that act side by side. Here whatever else is attached to
the model is bypassed, and comes back on leaving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from sightline.attention.alone import alone
from sightline.attention.attending import decoder_attentions
from sightline.attention.call import AttentionCall, by_call
from sightline.attention.hooks import Hooks
from sightline.errors import InputError
from sightline.models.anatomy import Anatomy

Attend = Callable[[int, AttentionCall], "Tensor | None"]
"""From a layer and its call to the output, [batch, queries, heads, value_dim], or None for the model's own kernel."""


@dataclass
class AttentionOverride:
    """What answers every attention call.

    attend: None leaves all to the model's own kernel.
    is_over: the attention is the model's own again, and nothing more can be read.
    """

    attend: Attend | None = None
    is_over: bool = False

    @contextmanager
    def by(self, attend: Attend) -> Iterator[None]:
        """Inside, `attend` answers."""
        if self.is_over:
            raise InputError("The model's attention was given back: read impact inside the `with` of its reader.")
        before, self.attend = self.attend, attend
        try:
            yield
        finally:
            self.attend = before


@contextmanager
def override_attention(anatomy: Anatomy) -> Iterator[AttentionOverride]:
    """Inside, the attention of the decoder's layers is what the override's `attend` answers.

    Raises:
        ModelError: when the model's attention does not go through the interface, in which case nothing was changed.
    """
    modules = decoder_attentions(anatomy)
    layers = {id(module): layer for layer, module in modules.items()}
    override = AttentionOverride()

    def attend(call: AttentionCall) -> Tensor | None:
        return None if override.attend is None else override.attend(layers[id(call.module)], call)

    with alone(anatomy, "impact"), Hooks(anatomy, in_bypassed=True) as hooks:
        hooks.intercept(modules.values(), by_call(attend))
        try:
            yield override
        finally:
            override.is_over = True
