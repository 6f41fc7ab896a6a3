"""The models of a job: named, a folder, loaded already, or a Transformers model in memory."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.integrations.served import is_served, served_model
from sightline.jobs.settings import ModelSettings
from sightline.models import vlm as vlms
from sightline.models.vlm.fingerprint import folder_fingerprint, model_folder
from sightline.models.vlm.generation import decoding_words

if TYPE_CHECKING:
    from sightline.models.vlm import VLM
    from sightline.probes.sinks import Sinks
    from sightline.runs.records import Records


@dataclass(frozen=True)
class ModelSource:
    """One model of a job.

    name  in documents and run folders
    vlm   where it is loaded already
    kept  where what `open` loads is kept for the next time; None: nowhere
    """

    name: str
    vlm: VLM | None = field(default=None, repr=False)
    kept: list[VLM] | None = field(default=None, repr=False, compare=False)

    @property
    def is_served(self) -> bool:
        """Whether it is behind an address, and answers but can be neither read nor changed."""
        return self.vlm is None and is_served(self.name)

    def open(self, settings: ModelSettings, run: Records | None = None, sinks: Sinks | None = None) -> VLM:
        """The model, loaded as the settings say; its revision is noted in the run.

        Raises InputError where the run knows another revision, and where the sinks are another model's.
        """
        if self.is_served:
            raise InputError(
                f"{self.name} is behind an address: `eval` can ask it, and nothing else; methods and readings need the "
                "model in this process."
            )
        loaded = [self.vlm] if self.vlm is not None else self.kept or [load_model(self.name, settings)]
        vlm = loaded[0]
        if self.kept is not None:
            self.kept[:] = [vlm]
        if run is not None:
            pin_loaded(run, self.name, vlm)
        if sinks is not None:
            sinks.require_model(vlm.name, vlm.revision, vlm.anatomy.hidden_size)
        return vlm

    def pin(self, run: Records) -> None:
        """Notes in the run what the model holds; InputError where it held something else before."""
        if self.vlm is not None:
            if hasattr(self.vlm, "model"):
                run.pin(f"weights of {self.name}", _weights_digest(self.vlm.model))
            return
        if self.is_served:
            return
        folder = model_folder(self.name)
        if folder is None:
            return  # of the hub, which has revisions; or wrong, which loading finds
        try:
            content = folder_fingerprint(folder)
        except OSError as error:
            raise InputError(f"The model folder {folder} cannot be read ({error.strerror or error}).") from error
        run.pin(f"content of {self.name}", content)


def pin_loaded(run: Records, name: str, vlm: VLM) -> None:
    """Notes in the run a model's revision and how its answers are chosen; InputError where either was another."""
    if vlm.revision is not None:
        run.pin(f"revision of {name}", vlm.revision)
    if hasattr(vlm, "generation_record"):
        run.pin(f"decoding of {name}", decoding_words(vlm.generation_record()))


def model_sources(models: Any, settings: ModelSettings, processor: Any = None) -> tuple[ModelSource, ...]:
    """The models that a job is given: one, or several in a list.

    processor: of a Transformers model in memory. Raises InputError where two have one name, where a model in memory is
    to be loaded otherwise, and for what is no model.
    """
    listed = list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    if not listed:
        raise InputError("There is no model: give at least one.")
    found = tuple(_source(model, settings, processor) for model in listed)
    if len({source.name for source in found}) < len(found):
        raise InputError("A model is named twice: name each once.")
    return found


def _source(model: Any, settings: ModelSettings, processor: Any) -> ModelSource:
    if isinstance(model, ModelSource):
        return model
    if isinstance(model, str | Path):
        if processor is not None:
            raise InputError(f"processor= goes with a model in memory; {model} has its own.")
        if is_served(model):
            served_model(str(model))
        return ModelSource(str(model))
    is_vlm = hasattr(model, "anatomy") and hasattr(model, "encode")
    given = [name for name in ("device", "dtype") if getattr(settings, name) != "auto"]
    given += [name for name in ("quantize", "layout") if getattr(settings, name) is not None]
    given += list(settings.of_loading())
    of_wrap = ("layout", "min_pixels", "max_pixels", "processor", "generation", "chat")
    given = [name for name in given if name not in of_wrap or is_vlm]
    if given:
        raise InputError(f"The model is in memory already, so {given[0]} has no effect: leave it out.")
    if is_vlm:
        return ModelSource(str(model.name), model)
    if not hasattr(model, "forward"):
        raise InputError(
            f"{type(model).__name__} is no model: give a bundled name, a folder, a hub name, a VLM, or a Transformers "
            "model with processor=."
        )
    if processor is None:
        raise InputError(f"{type(model).__name__} has no processor: give processor= with it.")
    vlm = vlms.wrap(model, processor, layout=settings.layout, **settings.of_loading())
    return ModelSource(vlm.name, vlm)


def load_model(name: str, settings: ModelSettings) -> VLM:
    """A named model; of several processes each takes its own GPU."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    device = settings.device
    rank = os.environ.get("LOCAL_RANK")
    if device == "auto" and rank is not None and _has_cuda():
        device = f"cuda:{rank}"
    if settings.device_map is not None:
        device = settings.device
    return vlms.load(
        name,
        dtype=settings.dtype,
        device=device,
        quantize=settings.quantize,
        layout=settings.layout,
        **settings.of_loading(),
    )


def _weights_digest(model: Any) -> str:
    """A short digest of weights in memory: names, shapes, and a thousand values of each, evenly spaced."""
    import torch

    digest = hashlib.sha256()
    with torch.no_grad():
        for name, weight in sorted(model.state_dict().items()):
            flat = weight.detach().reshape(-1)
            values = flat[:: max(1, flat.numel() // 1000)].to("cpu", torch.float32)
            digest.update(f"{name}{tuple(weight.shape)}".encode())
            digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
