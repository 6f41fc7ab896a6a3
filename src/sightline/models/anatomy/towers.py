"""What stands beside a decoder: the towers that see and hear, and the projector between them and the text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from sightline.models.anatomy.configuration import configs
from sightline.models.anatomy.decoder import self_attention

Towers = tuple[nn.Module | None, nn.Module | None, nn.Module | None]


def find_towers(model: Any, decoder_name: str, known: tuple[Any, ...]) -> Towers:
    """(vision tower, audio tower, projector); a tower is the largest part that takes pixels or sound and attends.

    Args:
        decoder_name: the dotted name of the decoder in the model.
        known: the input embedding and the head, which are neither.
    """
    towers: dict[str, list[nn.Module]] = {"image": [], "audio": []}
    others: list[nn.Module] = []
    for part in _beside(model, decoder_name):
        if any(part is module for module in known) or not _size(part):
            continue
        found = list(_towers_in(part, model.config))
        for modality, tower in found:
            towers[modality].append(tower)
        if not found:
            others.append(part)
    if not any(towers.values()):  # towers may hang inside the decoder, beside its layers
        for modality, tower in _towers_in(model.get_submodule(decoder_name), model.config):
            towers[modality].append(tower)
    vision, audio = (max(towers[modality], key=_rank, default=None) for modality in ("image", "audio"))
    projector = next(iter(others), None)
    if projector is None and (vision or audio) is not None:
        projector = _last_projection(vision or audio, getattr(known[0], "embedding_dim", None))
    return vision, audio, projector


def _rank(tower: nn.Module) -> tuple[bool, int]:
    """A model that also draws has a codebook of image codes beside the tower that sees; that one attends."""
    lists = [part for part in tower.modules() if isinstance(part, nn.ModuleList)]
    return any(self_attention(block) is not None for blocks in lists for block in blocks), _size(tower)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _beside(model: nn.Module, decoder_name: str) -> Iterator[nn.Module]:
    """Modules beside the decoder's path, the nearest to the decoder first."""
    path = decoder_name.split(".") if decoder_name else []
    for depth in range(len(path), 0, -1):
        parent = model.get_submodule(".".join(path[: depth - 1]))
        yield from (child for name, child in parent.named_children() if name != path[depth - 1])


def _towers_in(part: nn.Module, config: Any) -> Iterator[tuple[str, nn.Module]]:
    """The outermost towers in a module, itself included: ("image" or "audio", tower)."""
    modality = _modality(part, config)
    if modality is not None:
        yield modality, part
        return
    for child in part.children():
        yield from _towers_in(child, config)


def _modality(module: Any, config: Any) -> str | None:
    """ "image" or "audio" for a model of its own that takes pixels or sound, else None."""
    own = getattr(module, "config", None)
    if own is None or own is config:
        return None
    if not hasattr(module, "main_input_name") and not any(isinstance(part, nn.ModuleList) for part in module.modules()):
        return None  # a projector may hold its tower's configuration
    places = [name for part in configs(config) for name, value in vars(part).items() if value is own]
    places.append(str(getattr(own, "base_config_key", "")))
    for words, modality in ((("vision", "image", "vq_"), "image"), (("audio", "speech", "encoder_config"), "audio")):
        if any(word in place for word in words for place in places):
            return modality
    taken = getattr(module, "main_input_name", "")
    return {"pixel_values": "image", "input_features": "audio", "input_values": "audio"}.get(taken)


def _last_projection(tower: Any, width: int | None) -> nn.Module | None:
    """The last part of a tower that answers at the decoder's width."""
    children = [child for child in reversed(list(tower.children())) if not isinstance(child, nn.ModuleList)]
    return next(
        (child for child in children if any(getattr(part, "out_features", -1) == width for part in child.modules())),
        None,
    )
