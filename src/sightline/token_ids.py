"""Special token ids, read from every part of a model's configuration by the pattern of their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TOKEN_ID_NAME = re.compile(r"^(image|video|audio)_(?:pad_|patch_)?(?:token_)?(?:id|index)$")


def token_ids(config: Any, modality: str) -> frozenset[int]:
    """Placeholder ids of one modality, from every `<modality>_token_id` or `_index` in the configuration."""
    found: set[int] = set()
    for part in configs(config):
        for name in {*vars(part), *getattr(part, "attribute_map", {})}:
            match = _TOKEN_ID_NAME.match(name)
            value = getattr(part, name, None) if match and match[1] == modality else None
            if isinstance(value, int):
                found.add(value)
    return frozenset(found)


def configs(config: Any) -> Iterator[Any]:
    yield config
    for name in getattr(config, "sub_configs", {}):
        part = getattr(config, name, None)
        if part is not None and hasattr(part, "to_dict"):
            yield from configs(part)


def generation_ids(model: Any, text_config: Any, name: str) -> frozenset[int]:
    for holder in (getattr(model, "generation_config", None), model.config, text_config):
        value = getattr(holder, name, None)
        values = value if isinstance(value, list | tuple) else [value]
        ids = frozenset(int(item) for item in values if item is not None)
        if ids:
            return ids
    return frozenset()
