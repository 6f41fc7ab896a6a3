"""Small learned parts that lie beside a model: a safetensors file, and a JSON file that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sightline.errors import InputError


def save_part(part: nn.Module, settings: Mapping[str, Any], folder: str | Path, name: str) -> None:
    """Write `name`.safetensors and `name`.json into a folder, each replaced as a whole."""
    from safetensors.torch import save_file

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in part.state_dict().items()}
    draft = place / f"{name}.safetensors.part"
    save_file(weights, draft)
    draft.replace(place / f"{name}.safetensors")
    draft = place / f"{name}.json.part"
    draft.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    draft.replace(place / f"{name}.json")


def read_saved(folder: str | Path, name: str, what: str) -> dict[str, Any]:
    """What `name`.json says.

    Raises:
        InputError: where it is missing or is no such file.
    """
    file = Path(folder) / f"{name}.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no {what} ({name}.json): give the folder that one was saved into.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} can't be read as the settings of a {what}: {_in_short(error)}.") from None
    if not isinstance(found, dict):
        raise InputError(f"{file} holds no settings of a {what}: it must be a JSON object.")
    return found


def read_weights(part: nn.Module, folder: str | Path, name: str, what: str) -> None:
    """Load `name`.safetensors into `part`.

    Raises:
        InputError: where it is missing, torn, or of other parts or shapes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(folder) / f"{name}.safetensors"
    try:
        weights: dict[str, Tensor] = load_file(file)
    except FileNotFoundError:
        raise InputError(f"{file} is missing beside its settings: copy the whole folder of the {what}.") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} can't be read as the weights of a {what}: {_in_short(error)}.") from None
    own = {key: tuple(value.shape) for key, value in part.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in weights.items()}
    if own != given:
        odd = sorted(key for key in own.keys() | given.keys() if own.get(key) != given.get(key))[0]
        raise InputError(
            f"{file} does not fit the settings beside it: {odd} is {given.get(odd, 'missing')} and should be "
            f"{own.get(odd, 'absent')}."
        )
    part.load_state_dict(weights)


def _in_short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
