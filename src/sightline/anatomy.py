"""Where a model keeps its decoder layers, norms, vision tower and special token ids, found by structure.

Nothing here knows a model by name. A decoder is the module that owns a list of layers whose self-attention calls
the attention interface of Transformers, is causal, and works at the width of the model's input embedding; what
stands beside it on the way up to the whole model is a tower (it takes pixels or sound) or a projector.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

from torch import nn

from sightline.errors import ModelError
from sightline.token_ids import configs, generation_ids, token_ids
from sightline.tree import describe_missing, draw_anatomy, ranges

INTERFACE_NAME = "ALL_ATTENTION_FUNCTIONS"
"""The global through which a Transformers attention module looks up its attention function."""


@dataclass(frozen=True, eq=False, repr=False)
class Anatomy:
    """The parts of a Transformers language model that Sightline reads, each found by structure and configuration.

    Attributes:
        model: the Transformers model itself, without the wrappers of PEFT, `torch.compile` or data parallelism.
        decoder: the text decoder; its `forward` runs `layers` and is given `past_key_values`.
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

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """Indices of the layers with softmax attention, in order."""
        return tuple(index for index, attention in enumerate(self.attentions) if attention is not None)

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
            f"{name} is an encoder-decoder, whose text attends to the image by cross-attention: Sightline reads "
            "decoder-only models, where image and text share one sequence."
        )
    model = _generating_part(model)
    embedding = _call_or_none(model, "get_input_embeddings")
    decoder_name, decoder, layers = _find_decoder(model, embedding)
    attentions = tuple(_self_attention(layer) for layer in layers)
    _refuse_cross_attention(name, decoder, layers)
    first = next(attention for attention in attentions if attention is not None)
    config: Any = first.config
    head = _call_or_none(model, "get_output_embeddings")
    vision, audio, projector = _find_towers(model, decoder_name, (embedding, head))
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
        hidden_size=int(getattr(config, "hidden_size", 0) or embedding.weight.shape[-1]),
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


def uses_interface(module: nn.Module) -> bool:
    """Whether the module's forward looks its attention function up in the attention interface of Transformers."""
    kind: Any = type(module)
    return hasattr(module, "config") and _class_uses_interface(kind)


@cache
def _class_uses_interface(kind: Any) -> bool:
    forward = inspect.unwrap(kind.forward)
    code = getattr(forward, "__code__", None)
    return code is not None and any(INTERFACE_NAME in names for names in _names_in(code))


def _names_in(code: CodeType) -> Iterator[tuple[str, ...]]:
    yield code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _generating_part(model: nn.Module) -> nn.Module:
    """The part of an any-to-any model that reads the prompt and writes text (Qwen-Omni's thinker beside its talker)."""
    if _call_or_none(model, "get_input_embeddings") is not None:
        return model
    for child in model.children():
        if hasattr(child, "config") and _call_or_none(child, "get_output_embeddings") is not None:
            return child
    return model


def _call_or_none(model: Any, method: str) -> Any:
    try:
        return getattr(model, method)()
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _find_decoder(model: nn.Module, embedding: Any) -> tuple[str, nn.Module, tuple[nn.Module, ...]]:
    """The owner of the layers the text runs through: (dotted name, module, layers).

    Layers that keep a cache come first, then those at the embedding's width, then the nearest to the embedding, then
    the longest list.
    """
    width = getattr(getattr(embedding, "weight", None), "shape", (None,))[-1]
    embedding_name = next((name for name, module in model.named_modules() if module is embedding), "")
    best: tuple[tuple[bool, bool, int, int], str, nn.Module, tuple[nn.Module, ...]] | None = None
    for name, owner in model.named_modules():
        for layers in (child for child in owner.children() if isinstance(child, nn.ModuleList)):
            found = [attention for attention in map(_self_attention, layers) if attention is not None]
            if not found:
                continue
            rank = (
                all(_takes_cache(attention) for attention in found),
                width is None or getattr(found[0].config, "hidden_size", width) == width,
                _shared_depth(name, embedding_name),
                len(layers),
            )
            if best is None or rank > best[0]:
                best = rank, name, owner, tuple(layers)
    if best is None:
        raise ModelError(
            f"{type(model).__name__} has no layers whose attention goes through the attention interface of "
            "Transformers, so its attention cannot be read."
        )
    attention = _self_attention(best[3][0]) or next(filter(None, map(_self_attention, best[3])))
    generates = _is_causal(attention) or _call_or_none(model, "can_generate")
    if not best[0][0] or not generates or getattr(attention, "is_decoder", True) is False:
        raise ModelError(
            f"{type(model).__name__} does not generate text: Sightline reads causal language models and "
            "vision-language models built on them."
        )
    return best[1:]


def _shared_depth(name: str, other: str) -> int:
    depth = 0
    for mine, theirs in zip(name.split("."), other.split("."), strict=False):
        if mine != theirs:
            break
        depth += 1
    return depth


def _takes_cache(attention: Any) -> bool:
    """Whether the attention keeps keys and values of earlier steps, as a tower's never does."""
    return any(name.startswith("past_key_value") for name in inspect.signature(type(attention).forward).parameters)


def _is_causal(attention: Any) -> bool:
    return bool(getattr(attention, "is_causal", False))


def _self_attention(layer: nn.Module) -> Any:
    """The attention module of a layer that goes through the interface, outside any nested list of layers."""
    candidates = [module for module in layer.modules() if uses_interface(module)]
    return next((module for module in candidates if not _is_cross(module)), None)


def _is_cross(module: nn.Module) -> bool:
    return "cross" in type(module).__name__.lower() or bool(getattr(module, "is_cross_attention", False))


def _refuse_cross_attention(name: str, decoder: nn.Module, layers: tuple[nn.Module, ...]) -> None:
    crossed = [index for index, layer in enumerate(layers) if any(_is_cross(module) for module in layer.modules())]
    if crossed or any(_is_cross(module) for module in decoder.modules() if uses_interface(module)):
        where = f" (layers {ranges(crossed)})" if crossed else ""
        raise ModelError(
            f"{name} sees its image by cross-attention{where} and holds no image tokens in the sequence: Sightline "
            "reads models where image and text share one sequence."
        )


def _find_towers(
    model: nn.Module, decoder_name: str, known: tuple[Any, ...]
) -> tuple[nn.Module | None, nn.Module | None, nn.Module | None]:
    """What stands beside the decoder on the way up to the model: (vision tower, audio tower, projector)."""
    vision: nn.Module | None = None
    audio: nn.Module | None = None
    others: list[nn.Module] = []
    for sibling in _siblings(model, decoder_name):
        modality = _tower_modality(sibling, model.config)
        if any(sibling is module for module in known) or not any(True for _ in sibling.parameters()):
            continue
        if modality == "image" and vision is None:
            vision = sibling
        elif modality == "audio" and audio is None:
            audio = sibling
        else:
            others.append(sibling)
    projector = next(iter(others), None)
    if projector is None and vision is not None:
        width = getattr(known[0], "embedding_dim", None)
        projector = next(
            (
                child
                for child in reversed(list(vision.children()))
                if any(getattr(part, "out_features", -1) == width for part in child.modules())
                and not isinstance(child, nn.ModuleList)
            ),
            None,
        )
    return vision, audio, projector


def _siblings(model: nn.Module, decoder_name: str) -> Iterator[nn.Module]:
    """Modules beside the decoder's path, the nearest to the decoder first."""
    path = decoder_name.split(".") if decoder_name else []
    for depth in range(len(path), 0, -1):
        parent = model.get_submodule(".".join(path[: depth - 1]))
        yield from (child for name, child in parent.named_children() if name != path[depth - 1])


def _tower_modality(module: Any, config: Any) -> str | None:
    """ "image" or "audio" for a model of its own that takes pixels or sound, else None."""
    if not hasattr(module, "config") or not hasattr(module, "main_input_name"):
        return None
    places = [name for part in configs(config) for name, value in vars(part).items() if value is module.config]
    places.append(str(getattr(module.config, "base_config_key", "")))
    for words, modality in ((("vision", "image"), "image"), (("audio", "speech"), "audio")):
        if any(word in place for word in words for place in places):
            return modality
    return {"pixel_values": "image", "input_features": "audio", "input_values": "audio"}.get(module.main_input_name)


def _final_norm(decoder: nn.Module, layers: tuple[nn.Module, ...]) -> nn.Module | None:
    """The last norm among the decoder's own children (an embedding norm, where there is one, comes before it)."""
    norms = [child for name, child in decoder.named_children() if "norm" in f"{name} {type(child).__name__}".lower()]
    return norms[-1] if norms else None


def _head_shape(attention: Any, config: Any) -> tuple[int, int, int]:
    heads: int = getattr(config, "num_attention_heads", 0) or getattr(attention, "num_heads", 0)
    groups = getattr(attention, "num_key_value_groups", None)
    key_value_heads = heads // groups if groups else int(getattr(config, "num_key_value_heads", 0) or heads)
    head_dim: Any = getattr(attention, "head_dim", None) or getattr(config, "head_dim", None)
    return heads, key_value_heads, int(head_dim or config.hidden_size // heads)
