"""Loading what the user named, quietly."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.cli.options import Common
from sightline.errors import InputError
from sightline.sample import Sample

if TYPE_CHECKING:
    from sightline.vlm import VLM


def load_model(name: str, common: Common, layout: Path | None = None) -> VLM:
    """The model under the command's options; of several processes each takes its own GPU."""
    from transformers.utils import logging

    from sightline.vlm import load

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    device = common.device
    rank = os.environ.get("LOCAL_RANK")
    if device == "auto" and rank is not None and _has_cuda():
        device = f"cuda:{rank}"
    return load(name, dtype=common.dtype, device=device, quantize=common.quantize, layout=layout)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def require_media(vlm: VLM, sample: Sample) -> None:
    """InputError when a model that sees is asked without anything to see or hear."""
    anatomy = vlm.anatomy
    if (anatomy.vision_tower is None and anatomy.audio_tower is None) or sample.has_media:
        return
    where = f"sample {sample.id!r}" if sample.id not in ("", "1") else "the prompt"
    kind = "an image" if anatomy.vision_tower is not None else "a sound"
    raise InputError(f"{vlm.name} is to be asked about {kind}, and {where} comes without one: give --image FILE.")
