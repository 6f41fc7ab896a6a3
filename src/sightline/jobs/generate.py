"""`generate`: what a model answers to one sample, with or without a method."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from sightline.data.sample import Sample
from sightline.jobs.methods import method_specs, sinks_of
from sightline.jobs.models import model_sources
from sightline.jobs.settings import ModelSettings, job, setting, settings_of


@dataclass(frozen=True, kw_only=True)
class GenerateSettings(ModelSettings):
    """How an answer is made."""

    new_tokens: int = setting(128, "At most so many.", least=1)
    sinks: Any = setting(None, "The model's sinks, as `sightline sinks` writes them.", metavar="FILE", is_file=True)


@dataclass(frozen=True)
class Generated:
    """An answer. tokens: its ids. method: in full. revision: of the model, where it is known.
    generation: how it was chosen."""

    model: str
    text: str
    tokens: tuple[int, ...]
    method: str
    revision: str | None = None
    generation: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        return {
            "model": self.model,
            "text": self.text,
            "tokens": list(self.tokens),
            "method": self.method,
            "revision": self.revision,
            "generation": self.generation,
        }


@job(GenerateSettings)
def generate(model: Any, sample: Sample, method: Any = None, *, processor: Any = None, **fields: Any) -> Generated:
    """What a model answers to one sample, greedily."""
    import torch

    settings = settings_of(GenerateSettings, fields)
    sinks = sinks_of(settings.sinks)
    (spec,) = method_specs(method, sinks)
    (source,) = model_sources(model, settings, processor)
    torch.manual_seed(settings.seed)
    vlm = source.open(settings, sinks=sinks)
    inputs = vlm.encode(sample)
    with nullcontext() if spec.method is None else spec.method.on(vlm):
        (tokens,) = vlm.generate_tokens(inputs, max_new_tokens=settings.new_tokens)
    text = vlm.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return Generated(source.name, text, tuple(tokens), spec.name, vlm.revision, vlm.generation_record())
