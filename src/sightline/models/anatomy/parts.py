"""Where a model keeps its decoder layers, norms, vision tower and special token ids, found by structure.

Nothing here knows a model by name. A decoder is the module that owns a list of layers whose self-attention calls
the attention interface of Transformers, is causal, and works at the width of the model's input embedding; what
stands beside it on the way up to the whole model is a tower (it takes pixels or sound) or a projector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from sightline.errors import ModelError
from sightline.models.anatomy.configuration import generation_ids, token_ids, value_of
from sightline.models.anatomy.decoder import call_or_none, find_decoder, refuse_cross_attention, self_attention
from sightline.models.anatomy.towers import find_towers
from sightline.models.anatomy.tree import describe_missing, draw_anatomy
from sightline.models.transformers_api.cache import prompt_keepers


@dataclass(frozen=True, eq=False, repr=False)
class Anatomy:
    """The parts of a Transformers language model that Sightline reads, each found by structure and configuration.

    Attributes:
        model: the Transformers model itself, without the wrappers of PEFT, `torch.compile` or data parallelism.
        decoder: the text decoder; its `forward` runs `layers` and is given the cache.
        decoder_name: where the decoder stands in `model` (dotted, as in `named_modules`).
        layers: the decoder layers, in order.
        attentions: the softmax self-attention module of each layer; None for a layer that has none (a hybrid's
            linear attention, convolution or state-space layer).
        norm, head, embedding: the norm after the last layer, the language-model head, the input embedding.
        vision_tower, audio_tower, projector: None where the model has none, or none was found (see `missing`).
        text_config: the very configuration object that the attention modules hold.
        image_token_ids, video_token_ids, audio_token_ids: ids of the placeholders that features are put in.
        bos_token_ids, eos_token_ids, pad_token_id: from the configuration and the generation configuration.
        num_heads, num_key_value_heads, head_dim, hidden_size: of the decoder's first softmax attention.
        missing: one sentence for each part that was looked for and not found.
    """

    model: nn.Module
    decoder: nn.Module
    decoder_name: str
    layers: tuple[nn.Module, ...]
    attentions: tuple[nn.Module | None, ...]
    norm: nn.Module | None
    head: nn.Module | None
    embedding: nn.Module | None
    vision_tower: nn.Module | None
    audio_tower: nn.Module | None
    projector: nn.Module | None
    text_config: Any
    image_token_ids: frozenset[int]
    video_token_ids: frozenset[int]
    audio_token_ids: frozenset[int]
    bos_token_ids: frozenset[int]
    eos_token_ids: frozenset[int]
    pad_token_id: int | None
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    hidden_size: int
    missing: tuple[str, ...] = ()

    @cached_property
    def attention_layers(self) -> tuple[int, ...]:
        """Indices of the layers with softmax attention, in order."""
        return tuple(index for index, attention in enumerate(self.attentions) if attention is not None)

    @cached_property
    def prompt_keepers(self) -> tuple[nn.Module, ...]:
        """Modules that keep a state of the last prompt that was run."""
        return prompt_keepers(self.model)

    @property
    def config(self) -> Any:
        """The configuration of the whole model."""
        return self.model.config

    @property
    def is_multimodal(self) -> bool:
        """Whether the model takes anything beside text."""
        return bool(self.image_token_ids or self.video_token_ids or self.audio_token_ids) or (
            self.vision_tower is not None or self.audio_tower is not None
        )

    def name_of(self, module: nn.Module | None) -> str | None:
        """The dotted name of a module in `model`, or None for None and for a module that is not in it."""
        return next((name for name, found in self.model.named_modules() if found is module), None)

    def __str__(self) -> str:
        return draw_anatomy(self)

    def __repr__(self) -> str:
        return str(self)


def find_anatomy(model: Any) -> Anatomy:
    """Find the parts of a loaded Transformers model.

    Args:
        model: a decoder-only language model or a vision- or audio-language model built on one; it may be wrapped by
            PEFT, `torch.compile` or `DistributedDataParallel`, and its linear layers may be quantised.

    Raises:
        ModelError: for an encoder-decoder, a model that sees the image by cross-attention, a model without causal
            layers or one whose attention does not go through the attention interface of Transformers.
    """
    model = unwrap(model)
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise ModelError(f"{type(model).__name__} is not a Transformers model: give one loaded with from_pretrained.")
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder-decoder, whose text reads the image by cross-attention: Sightline reads "
            "decoder-only models, where image and text share one sequence."
        )
    model = _generating_part(model)
    embedding = call_or_none(model, "get_input_embeddings")
    decoder_name, decoder, layers = find_decoder(model, embedding)
    attentions = tuple(self_attention(layer) for layer in layers)
    refuse_cross_attention(name, decoder, layers)
    first = next(attention for attention in attentions if attention is not None)
    config: Any = first.config
    head = _head(model)
    vision, audio, projector = find_towers(model, decoder_name, (embedding, head))
    ids = {modality: token_ids(model.config, modality) for modality in ("image", "video", "audio")}
    norm = _final_norm(decoder, layers)
    heads, key_value_heads, head_dim = _head_shape(first, config)
    return Anatomy(
        model=model,
        decoder=decoder,
        decoder_name=decoder_name,
        layers=layers,
        attentions=attentions,
        norm=norm,
        head=head,
        embedding=embedding,
        vision_tower=vision,
        audio_tower=audio,
        projector=projector,
        text_config=config,
        image_token_ids=ids["image"],
        video_token_ids=ids["video"],
        audio_token_ids=ids["audio"],
        bos_token_ids=generation_ids(model, config, "bos_token_id"),
        eos_token_ids=generation_ids(model, config, "eos_token_id"),
        pad_token_id=next(iter(sorted(generation_ids(model, config, "pad_token_id"))), None),
        num_heads=heads,
        num_key_value_heads=key_value_heads,
        head_dim=head_dim,
        hidden_size=int(value_of(config, "hidden_size") or embedding.weight.shape[-1]),
        missing=describe_missing(layers, attentions, norm, head, vision, audio, projector, ids),
    )


def unwrap(model: Any) -> Any:
    """The Transformers model inside the wrappers of PEFT, `torch.compile` and data parallelism."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
            inner = model.get_base_model()
        if inner is None and type(model).__name__.endswith(("DataParallel", "DistributedDataParallel")):
            inner = model.module
        if inner is None or inner is model:
            return model
        model = inner


def _generating_part(model: nn.Module) -> nn.Module:
    """The part of an any-to-any model that reads the prompt and writes text (Qwen-Omni's thinker beside its talker)."""
    if call_or_none(model, "get_input_embeddings") is not None:
        return model
    for child in model.children():
        if hasattr(child, "config") and call_or_none(child, "get_output_embeddings") is not None:
            return child
    return model


def _head(model: nn.Module) -> Any:
    """The language-model head; where the model does not say, its last module of that name."""
    embeddings = call_or_none(model, "get_output_embeddings")
    named = [module for name, module in model.named_modules() if name.split(".")[-1] == "lm_head"]
    return embeddings if embeddings is not None or not named else named[-1]


def _final_norm(decoder: nn.Module, layers: tuple[nn.Module, ...]) -> nn.Module | None:
    """The first norm behind the layers among the decoder's own children; else the last one before them."""
    before: list[nn.Module] = []
    after: list[nn.Module] = []
    side = before
    for name, child in decoder.named_children():
        if isinstance(child, nn.ModuleList) and len(child) and child[0] is layers[0]:
            side = after
        elif "norm" in f"{name} {type(child).__name__}".lower() or name == "ln_f":
            side.append(child)
    return after[0] if after else before[-1] if before else None


def _head_shape(attention: Any, config: Any) -> tuple[int, int, int]:
    """Query heads, key-value heads, and the width of one head, of one layer's attention."""
    width = getattr(attention, "head_dim", None) or value_of(config, "head_dim")
    heads = getattr(attention, "num_heads", None) or value_of(config, "num_attention_heads")
    if not heads:  # heads that differ between layers are in no one field; the projection tells
        heads = attention.q_proj.out_features // width
    groups = getattr(attention, "num_key_value_groups", None)
    key_value_heads = heads // groups if groups else value_of(config, "num_key_value_heads") or heads
    return int(heads), int(key_value_heads), int(width or value_of(config, "hidden_size") // heads)
