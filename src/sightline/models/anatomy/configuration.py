"""Reading a model's configuration: fields that may not be there, its parts, and special token ids by their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TOKEN_ID_NAME = re.compile(r"^(image|video|audio)_(?:pad_|patch_|context_)?(?:token_)?(?:id|index)$")


def value_of(config: Any, name: str, default: Any = None) -> Any:
    """A field of a configuration, or the default where it is missing, None, or not one value for all layers."""
    try:
        value = getattr(config, name)
    except Exception:  # a field that differs between layers raises an error of its own kind
        return default
    return default if value is None else value


def token_ids(config: Any, modality: str) -> frozenset[int]:
    """Placeholder ids of one modality, from every `<modality>_token_id` or `_index` in the configuration."""
    found: set[int] = set()
    for part in configs(config):
        for name in {*vars(part), *getattr(part, "attribute_map", {})}:
            match = _TOKEN_ID_NAME.match(name)
            value = value_of(part, name) if match and match[1] == modality else None
            if isinstance(value, int):
                found.add(value)
        named = value_of(part, "vocabulary_map", {}).get(f"<{modality}>")
        if isinstance(named, int):
            found.add(named)
    return frozenset(found)


def configs(config: Any) -> Iterator[Any]:
    yield config
    for name in getattr(config, "sub_configs", {}):
        part = value_of(config, name)
        if part is not None and hasattr(part, "to_dict"):
            yield from configs(part)


def generation_ids(model: Any, text_config: Any, name: str) -> frozenset[int]:
    for holder in (getattr(model, "generation_config", None), model.config, text_config):
        value = value_of(holder, name)
        values = value if isinstance(value, list | tuple) else [value]
        ids = frozenset(int(item) for item in values if item is not None)
        if ids:
            return ids
    return frozenset()
