"""A folder of PEFT adapters: the base it names, and the adapters put into it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import ModelError

if TYPE_CHECKING:
    from sightline.models.source import CheckpointSource

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def with_adapter(model: Any, source: CheckpointSource) -> Any:
    """The base model with the adapters of the source's folder, in evaluation mode.

    Raises:
        ModelError: without PEFT, and for adapters that are missing, damaged, or of another model.
    """
    folder = Path(str(source.adapter))
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise ModelError(f"The adapters in {folder} have no weights ({WEIGHTS[0]}): copy them into the folder.")
    if weights.suffix == ".bin":
        raise ModelError(f"The adapters in {folder} are pickled ({weights.name}), which is not read: save safetensors.")
    if importlib.util.find_spec("peft") is None:
        raise ModelError(f"The folder {folder} holds adapters, which need PEFT: pip install 'sightline-vlm[train]'.")
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "pt") as file:
            held = set(file.keys())
        adapted = PeftModel.from_pretrained(model, folder)
    except SafetensorError as error:
        raise ModelError(f"The adapters in {folder} are damaged or cut short: copy them again.") from error
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"The adapters in {folder} do not fit their base {source.path}: {reason}") from error
    refuse_prompt_learning(adapted)
    expected = set(get_peft_model_state_dict(adapted))
    if held != expected:
        missing, unknown = sorted(expected - held), sorted(held - expected)
        fault = f"lack {len(missing)} tensors, as {missing[0]}" if missing else f"hold {unknown[0]}, which has no place"
        raise ModelError(f"The adapters in {folder} {fault}: they belong to another model or were cut short.")
    return adapted.eval()


def refuse_prompt_learning(model: Any) -> None:
    """ModelError for adapters that put positions before the prompt: they act outside of the model that is read."""
    for settings in (getattr(model, "peft_config", None) or {}).values():
        if getattr(settings, "is_prompt_learning", False):
            raise ModelError(
                f"The adapters are of the kind {type(settings).__name__}, which puts learned positions before the "
                "prompt: Sightline reads adapters within the weights, such as LoRA."
            )
