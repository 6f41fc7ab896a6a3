"""Are the weights all there? Looked at before and after a model is loaded, so that none of them is drawn at random."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sightline.errors import ModelError
from sightline.models.source import CheckpointSource

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "consolidated*.pth")

_COMPUTED = re.compile(r"(^|\.)(inv_freq|position_ids|num_batches_tracked|masked_bias|attn\.bias|rotary_emb\.[\w.]+)$")
"""What old checkpoints hold and no model learns: it follows from the configuration."""


def require_weights(source: CheckpointSource) -> None:
    """Looks at a local folder's files before anything is loaded.

    Raises:
        ModelError: without safetensors, for pickled weights, and for a shard that its index names and that is missing.
    """
    if not source.is_folder:
        return
    folder = Path(source.path)
    if (folder / INDEX).is_file():
        try:
            shards = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"The {INDEX} of {source.name} is damaged: copy it again.") from error
        missing = [name for name in shards if not (folder / str(name)).is_file()]
        if missing:
            raise ModelError(
                f"{source.name} lacks {len(missing)} of the {len(shards)} files of its weights, as {missing[0]}: copy "
                "them into the folder."
            )
        return
    if (folder / SINGLE).is_file():
        return
    pickled = [path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))]
    if pickled:
        raise ModelError(
            f"The weights of {source.name} are pickled ({pickled[0]}), which may run code and is not read: save them "
            "as safetensors with Transformers' save_pretrained."
        )
    other = next(iter([*sorted(folder.glob("*.gguf")), *sorted(folder.glob("*.safetensors"))]), None)
    held = f", and {other.name} is not read" if other is not None else ""
    raise ModelError(f"{source.name} has no weights ({SINGLE}){held}: copy them into the folder.")


def require_complete(source: CheckpointSource, model: Any, found: Mapping[str, Any]) -> None:
    """Looks at what Transformers reports of a loading. Heads tied to the embedding are no weights of their own.

    Raises:
        ModelError: naming what is missing from the checkpoint, of another shape, or without a place in the model.
    """
    total = len(model.state_dict())
    missing = _names(found.get("missing_keys"))
    mismatched = _names(found.get("mismatched_keys"))
    unexpected = _names(found.get("unexpected_keys"))
    if getattr(model.config, "quantization_config", None) is not None:
        unexpected = []  # scales and the like, which the quantiser takes apart
    faults = []
    if missing:
        faults.append(f"lacks {_some(missing)} of {total} weights")
    if mismatched:
        faults.append(f"holds {_some(mismatched)} in another shape than its configuration")
    if unexpected:
        faults.append(f"holds {_some(unexpected)}, for which its configuration has no place")
    if not faults:
        return
    raise ModelError(
        f"The checkpoint {source.name} {', and '.join(faults)}: what is missing would be drawn at random. Get the "
        "whole checkpoint and its own config.json, or allow it (allow_missing=True, --allow-missing)."
    )


def _names(keys: Iterable[Any] | None) -> list[str]:
    names = sorted(str(key[0]) if isinstance(key, tuple | list) else str(key) for key in keys or ())
    return [name for name in names if not _COMPUTED.search(name)]


def _some(names: list[str]) -> str:
    """How many, and the first."""
    first = names[0] if len(names[0]) <= 80 else f"...{names[0][-77:]}"
    return first if len(names) == 1 else f"{len(names)}, as {first},"
