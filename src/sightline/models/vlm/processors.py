"""A processor without its video part, for machines without torchvision: images and text need none."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

from sightline.models.transformers_api.loading import processor_class, processor_settings


class NoVideo:
    """Stands where a processor keeps its video processor, so that it need not be there for images."""

    model_input_names: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def lacks_video_library(path: str, config: Any, options: dict[str, Any]) -> bool:
    """Whether a processor has a video part that cannot be loaded here: to try would read its vocabulary twice."""
    if importlib.util.find_spec("torchvision") is not None:
        return False
    try:
        kind = processor_class(processor_settings(path, options).get("processor_class"), config)
        return any("video" in name for name in kind.get_attributes())
    except (ImportError, OSError, ValueError, KeyError, AttributeError):  # which loading it explains
        return False


def load_without_video(path: str, config: Any, options: dict[str, Any]) -> Any:
    """The processor of a model, built from its parts with `NoVideo` for the video processor.

    Raises whatever Transformers raises when another part is missing.
    """
    from transformers import AutoFeatureExtractor, AutoTokenizer

    settings = processor_settings(path, options)
    kind: Any = _without_check(processor_class(settings.get("processor_class"), config))
    loaders = {
        "tokenizer": AutoTokenizer.from_pretrained,
        "image_processor": _load_image_processor,
        "feature_extractor": AutoFeatureExtractor.from_pretrained,
        "audio_processor": AutoFeatureExtractor.from_pretrained,
    }
    parts: dict[str, Any] = {}
    for name in kind.get_attributes():
        parts[name] = NoVideo() if "video" in name else loaders[name](path, **options)
    taken = set(inspect.signature(kind.__init__).parameters) - set(parts)
    return kind(**parts, **{name: value for name, value in settings.items() if name in taken})


def _load_image_processor(path: str, **options: Any) -> Any:
    """The image processor that works on Pillow pictures."""
    import transformers

    try:
        return transformers.AutoImageProcessor.from_pretrained(path, **options)
    except ImportError:  # up to Transformers 5.17 the auto class itself wants torchvision
        settings, _ = transformers.ImageProcessingMixin.get_image_processor_dict(path, **options)
        name = str(settings.get("image_processor_type", "")).removesuffix("Fast").removesuffix("Pil") + "Pil"
        if not hasattr(transformers, name):
            raise
        return getattr(transformers, name).from_pretrained(path, **options)


def _without_check(kind: Any) -> Any:
    """The processor class, letting `NoVideo` pass the check of its parts' classes."""

    def check(self: Any, name: str, part: Any) -> Any:
        return NoVideo if isinstance(part, NoVideo) else kind.check_argument_for_proper_class(self, name, part)

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check, "__module__": kind.__module__})
