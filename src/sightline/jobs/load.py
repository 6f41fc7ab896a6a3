"""Loading what the user named, quietly."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.cli.options import Common
from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.models.vlm import VLM
    from sightline.runs.folder import Run


def load_model(name: str, common: Common, layout: Path | None = None) -> VLM:
    """The model under the command's options; of several processes each takes its own GPU."""
    from transformers.utils import logging

    from sightline.models.vlm import load

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    device = common.device
    rank = os.environ.get("LOCAL_RANK")
    if device == "auto" and rank is not None and _has_cuda():
        device = f"cuda:{rank}"
    return load(name, dtype=common.dtype, device=device, quantize=common.quantize, layout=layout)


def pin_folder(name: str, run: Run) -> None:
    """Notes in the run what a bundled or local model's folder holds; InputError where it held something else before."""
    from sightline.models.vlm.fingerprint import folder_fingerprint, model_folder

    folder = model_folder(name)
    if folder is None:
        return  # of the hub, which has revisions; or wrong, which loading tells
    try:
        content = folder_fingerprint(folder)
    except OSError as error:
        raise InputError(f"The model folder {folder} cannot be read ({error.strerror or error}).") from error
    run.pin(f"content of {name}", content)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
