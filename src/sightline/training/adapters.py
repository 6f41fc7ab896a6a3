"""Which weights are trained, and how the result becomes a model that loads like any other."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sightline.errors import InputError, ModelError, SightlineWarning
from sightline.models.source import find_source
from sightline.models.vlm import load
from sightline.models.vlm.processors import NoVideo

if TYPE_CHECKING:
    from sightline.models.anatomy import Anatomy
    from sightline.models.vlm import VLM
    from sightline.probes.grounding.head import GroundingHead
    from sightline.training.settings import TrainSettings

ADAPTER = "adapter"
"""The folder of the adapters alone, in the folder of a LoRA training's result."""


def out_of_float16(vlm: VLM) -> VLM:
    """A model whose weights are stored in float16 in bfloat16, with a warning; any other as it is."""
    if vlm.model.dtype == torch.float16 and not getattr(vlm.model, "is_quantized", False):
        warnings.warn(
            f"{vlm.name} is stored in float16, in which weights cannot be trained: it is trained, and saved, in "
            "bfloat16 (--dtype float32 for more digits and twice the memory).",
            SightlineWarning,
            stacklevel=3,
        )
        vlm.model.to(torch.bfloat16)
    return vlm


def prepare(vlm: VLM, settings: TrainSettings) -> Any:
    """The module to train: the model itself, or around it PEFT's; what is not trained takes no gradient.

    Raises:
        InputError: where PEFT is not installed, or the model's weights do not fit the method.
    """
    trained = _prepared(vlm, settings)
    if any(weight.requires_grad and weight.dtype == torch.float16 for weight in trained.parameters()):
        raise InputError(  # AdamW's epsilon of 1e-8 is zero in float16, and its steps are soon no numbers
            f"{vlm.name} is loaded in float16, in which weights cannot be trained: load it in bfloat16 or float32 "
            "(--dtype bfloat16)."
        )
    return trained


def _prepared(vlm: VLM, settings: TrainSettings) -> Any:
    if settings.method == "full":
        if getattr(vlm.model, "is_quantized", False):
            raise InputError(f"{vlm.name} is quantised, and its weights cannot be trained: give the method qlora.")
        _choose(vlm.anatomy, settings)
        return vlm.model
    if importlib.util.find_spec("peft") is None:
        raise InputError(f"The method {settings.method} needs PEFT: pip install 'sightline-vlm[train]'.")
    if settings.method == "qlora" and not getattr(vlm.model, "is_loaded_in_4bit", False):
        raise InputError(f"The method qlora trains a 4-bit model and {vlm.name} is none: load it with quantize='4bit'.")
    return _with_adapters(vlm, settings)


def _choose(anatomy: Anatomy, settings: TrainSettings) -> None:
    anatomy.model.requires_grad_(True)
    for tower in (anatomy.vision_tower, anatomy.audio_tower):
        if tower is not None:
            tower.requires_grad_(settings.vision_tower)
    if anatomy.projector is not None:  # in some models it lies within the tower
        anatomy.projector.requires_grad_(settings.projector)


def _with_adapters(vlm: VLM, settings: TrainSettings) -> Any:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    model, others = vlm.model, []
    if settings.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        if settings.projector:
            message = "A 4-bit projector cannot be trained: with qlora it stays as it is."
            warnings.warn(message, SightlineWarning, stacklevel=3)
    elif settings.projector:
        name = vlm.anatomy.name_of(vlm.anatomy.projector)
        others = [] if name is None else [name]
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=target_names(vlm.anatomy),
        modules_to_save=others or None,
    )
    return get_peft_model(model, config)


def target_names(anatomy: Anatomy) -> list[str]:
    """Full names of the linear layers of the decoder's attention and MLP; none is of a tower or the projector."""
    names = {id(module): name for name, module in anatomy.model.named_modules()}
    found = [
        names[id(module)] for layer in anatomy.layers for module in layer.modules() if isinstance(module, nn.Linear)
    ]
    if not found:
        raise ModelError(f"The decoder layers of {type(anatomy.model).__name__} have no linear layers to adapt.")
    return found


def save(vlm: VLM, model: Any, settings: TrainSettings, out: Path, head: GroundingHead | None) -> None:
    """Writes a model that `sightline.load` loads: weights, configuration, processor, and the grounding head.

    Adapters are merged into the weights, and kept beside them in the folder `adapter`. Files come from a folder beside
    it, the configuration last, so that a half-written model is never taken for one.
    """
    part = out / ".saving"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if settings.method != "full":
        model.save_pretrained(part / ADAPTER)
    _merged(vlm, model, settings, part).save_pretrained(part)
    _save_processor(vlm, part)
    if head is not None:
        head.save(part)
    for path in sorted(part.iterdir(), key=lambda path: path.name == "config.json"):
        target = out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    part.rmdir()


PROCESSOR_FILES = (
    "processor_config.json preprocessor_config.json video_preprocessor_config.json chat_template.* tokenizer* "
    "special_tokens_map.json added_tokens.json vocab.* merges.txt *.model"
).split()


def _save_processor(vlm: VLM, part: Path) -> None:
    """The processor as it is; one whose video library is not installed, and so cannot be written, as it was loaded."""
    if not isinstance(getattr(vlm.processor, "video_processor", None), NoVideo):
        vlm.processor.save_pretrained(part)
        return
    source = find_source(vlm.name, vlm.revision)
    folder = Path(source.path)
    if not source.is_folder:
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(source.path, revision=vlm.revision, allow_patterns=PROCESSOR_FILES))
    for pattern in PROCESSOR_FILES:
        for file in folder.glob(pattern):
            shutil.copyfile(file, part / file.name)


def _merged(vlm: VLM, model: Any, settings: TrainSettings, part: Path) -> Any:
    if settings.method == "full":
        return model
    if settings.method == "lora":
        return model.merge_and_unload()
    from peft import PeftModel

    # Merging into 4-bit weights would round the adapters away: they go into the weights as they were before.
    whole = load(vlm.name, dtype=torch.bfloat16, device="cpu", revision=vlm.revision)
    return PeftModel.from_pretrained(whole.model, part / ADAPTER).merge_and_unload()
