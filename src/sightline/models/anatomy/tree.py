"""An anatomy in words: the tree of the modules that were found, and a sentence for each that was not."""

from __future__ import annotations

from typing import Any

from torch import nn

from sightline.text import ranges


def draw_anatomy(anatomy: Any) -> str:
    """A tree, one line a part: dotted name, class, and what matters about it; then what is missing."""
    config = anatomy.text_config
    kinds = getattr(config, "layer_types", None) or []
    lines = [f"{type(anatomy.model).__name__} ({getattr(anatomy.config, 'model_type', 'unknown')})"]
    parts: list[tuple[str, Any, str]] = [
        ("vision tower", anatomy.vision_tower, ""),
        ("audio tower", anatomy.audio_tower, ""),
        ("projector", anatomy.projector, ""),
        ("embedding", anatomy.embedding, f"hidden {anatomy.hidden_size}"),
        ("decoder", anatomy.decoder, f"{len(anatomy.layers)} layers, {len(anatomy.attention_layers)} with attention"),
        ("norm", anatomy.norm, ""),
        ("head", anatomy.head, ""),
    ]
    shown = [(label, module, note) for label, module, note in parts if module is not None]
    for index, (label, module, note) in enumerate(shown):
        branch = "└─" if index == len(shown) - 1 else "├─"
        tail = f", {note}" if note else ""
        lines.append(f"{branch} {label:<13}{anatomy.name_of(module) or '.'} ({type(module).__name__}{tail})")
        if label == "decoder":
            heads = f"{anatomy.num_heads} heads of {anatomy.head_dim}"
            if anatomy.num_key_value_heads != anatomy.num_heads:
                heads += f", {anatomy.num_key_value_heads} key-value heads"
            first = anatomy.attentions[anatomy.attention_layers[0]]
            lines.append(f"│  └─ attention  {type(first).__name__}, {heads}")
            for kind in sorted(set(kinds)):
                lines.append(
                    f"│     {kind.replace('_', ' ')} in layers {[i for i, k in enumerate(kinds) if k == kind]}"
                )
    for modality in ("image", "video", "audio"):
        ids = getattr(anatomy, f"{modality}_token_ids")
        if ids:
            lines.append(f"   {modality} token id {', '.join(map(str, sorted(ids)))}")
    return "\n".join(lines + [f"   {sentence}" for sentence in anatomy.missing])


def describe_missing(
    layers: tuple[nn.Module, ...],
    attentions: tuple[Any, ...],
    norm: Any,
    head: Any,
    vision: Any,
    audio: Any,
    projector: Any,
    ids: dict[str, frozenset[int]],
) -> tuple[str, ...]:
    """A sentence for each part that was looked for and not found."""
    notes = []
    without = [index for index, attention in enumerate(attentions) if attention is None]
    if without:
        kinds = sorted({_mixer_name(layers[index]) for index in without})
        notes.append(
            f"Layers {ranges(without)} have no softmax attention ({', '.join(kinds)}) and are left out of the maps."
        )
    if norm is None:
        notes.append("No norm was found after the last layer.")
    if head is None:
        notes.append("No language-model head was found, so this model gives no logits.")
    if vision is None and ids["image"]:
        notes.append("Image tokens are configured but no vision tower was found beside the decoder.")
    if vision is not None and not ids["image"] and not ids["video"]:
        notes.append("There is a vision tower but no image token id in the configuration.")
    if (vision is not None or audio is not None) and projector is None:
        notes.append("No projector was found between the tower and the decoder.")
    return tuple(notes)


def _mixer_name(layer: nn.Module) -> str:
    """The class of the child that mixes positions in a layer without softmax attention."""
    children = [child for _, child in layer.named_children()]
    with_index = [child for child in children if hasattr(child, "layer_idx")]
    mixers = with_index or [child for child in children if "norm" not in type(child).__name__.lower()]
    return type((mixers or [layer])[0]).__name__
