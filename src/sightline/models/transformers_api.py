"""Every name of Transformers that is private or may be renamed, and what its releases do differently.

Nothing else in Sightline spells such a name (a test looks for them), so that a new release is met in this file alone.
Where a release does what this file does not know, a `ModelError` says so: a number read past it would be wrong.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import Cache, DynamicCache, GenerationMixin, LogitsProcessorList
from transformers import __version__ as RELEASE
from transformers.cache_utils import DynamicLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sightline.errors import ModelError, SightlineWarning

__all__ = ["RELEASE", "Cache", "GenerationMixin", "LogitsProcessorList"]

OLDEST, NEWEST = (5, 17), (5, 24)
"""The first and the last minor release that the tests passed on."""

CACHE_NAMES = ("cache", "past_key_values")
"""What a forward calls its cache: the first since 5.24, the second before; files loaded from a hub may keep either."""

ENCODER_OUTPUTS = "mm_encoder_outputs"
"""Features of images, encoded ahead of the forward; since 5.23."""

LOOKUP = "ALL_ATTENTION_FUNCTIONS"
"""The global through which an attention module looks up its attention function."""

_ASSISTED = ("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp")
"""Settings of `generate` that draft several tokens, of which the model keeps some."""

CHECKPOINTING = "_gradient_checkpointing_func"
"""The attribute of a decoder layer through which it is run when its activations are computed again."""

CONTINUOUS_BATCHING = ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager")
"""Methods of a model that serve many prompts in one packed sequence, under plain names since 5.23."""


def release_warning(release: str = RELEASE) -> str | None:
    """A sentence where this release of Transformers is none that the tests passed on, else None."""
    minor = tuple(int(part) for part in release.split(".")[:2] if part.isdigit())
    if OLDEST <= minor <= NEWEST:
        return None
    tested = f"{'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
    return (
        f"Transformers {release} is installed, and Sightline was tested with {tested}: what it does not know there it "
        f"refuses, and `vlm.check()` looks whether a model is read rightly."
    )


@functools.cache
def warn_of_release() -> None:
    """Warn once of a release that is none that the tests passed on."""
    sentence = release_warning()
    if sentence is not None:
        warnings.warn(sentence, SightlineWarning, stacklevel=4)


# The cache


def cache_of(inputs: Mapping[str, Any]) -> Any:
    """The cache that a forward pass is given; None where it has none.

    Raises:
        ModelError: where something that is a cache stands under a name that no tested release uses.
    """
    for name in CACHE_NAMES:
        if inputs.get(name) is not None:
            return inputs[name]
    unknown = next((name for name, value in inputs.items() if isinstance(value, Cache)), None)
    if unknown is not None:
        raise ModelError(
            f"The model's forward takes its cache as {unknown!r}, which Sightline does not know "
            f"(it knows {' and '.join(map(repr, CACHE_NAMES))}): this release of Transformers, {RELEASE}, or the "
            "model's own code can't be read."
        )
    return None


def without_cache(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A forward's inputs less the cache, under whatever name."""
    return {name: value for name, value in inputs.items() if name not in CACHE_NAMES}


def with_cache(inputs: Mapping[str, Any], cache: Any, module: nn.Module) -> dict[str, Any]:
    """A forward's inputs with this cache, under the name that the module's forward gives it."""
    return {**without_cache(inputs), cache_name(module): cache}


def cache_name(module: nn.Module) -> str:
    """What the module's forward calls its cache.

    Raises:
        ModelError: where it takes one under no name that a tested release uses.
    """
    parameters = inspect.signature(inspect.unwrap(type(module).forward)).parameters
    found = next((name for name in CACHE_NAMES if name in parameters), None)
    if found is None:
        raise ModelError(
            f"The forward of {type(module).__name__} takes its cache as neither {' nor '.join(map(repr, CACHE_NAMES))}:"
            f" this release of Transformers, {RELEASE}, or the model's own code can't be read."
        )
    return found


def cache_from(output: Any) -> Any:
    """The cache that a forward pass gave back; None where it gave none."""
    if isinstance(output, tuple):
        return next((value for value in output if isinstance(value, Cache)), None)
    return next((found for name in CACHE_NAMES if (found := getattr(output, name, None)) is not None), None)


def is_static(cache: Any) -> bool:
    """Whether a cache has its full length from the start (StaticCache, and sliding ones of fixed size)."""
    return bool(getattr(cache, "is_compileable", False))


def grows(cache: Any, config: Any) -> bool:
    """Whether a cache, and one made for this model, keeps all keys of every layer and grows by them."""
    layers = (*getattr(cache, "layers", ()), *DynamicCache(config=config).layers)
    return all(type(layer) is DynamicLayer for layer in layers) and not getattr(cache, "offloading", False)


def prompt_keepers(model: nn.Module) -> tuple[nn.Module, ...]:
    """Modules that keep a state of the last prompt that was run, as three-dimensional positions do."""
    return tuple(module for module in model.modules() if hasattr(module, "rope_deltas"))


@contextmanager
def kept_prompts(keepers: Collection[nn.Module]) -> Iterator[None]:
    """Put back, at the end, the state of the last prompt that these modules keep now."""
    states = [(module, module.rope_deltas) for module in keepers]
    try:
        yield
    finally:
        for module, state in states:
            module.rope_deltas = state


def has_encoder_outputs(inputs: Mapping[str, Any]) -> bool:
    """Whether features that were encoded ahead are among a forward's inputs."""
    return bool(inputs.get(ENCODER_OUTPUTS))


def without_encoder_outputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A forward's inputs less the features that were encoded ahead."""
    return {name: value for name, value in inputs.items() if name != ENCODER_OUTPUTS}


# Loading


def commit_of(config: Any) -> str | None:
    """The commit of the hub that a configuration was read from, where it was."""
    return getattr(config, "_commit_hash", None)


def generating_classes(auto: Any, config: Any) -> list[str]:
    """Names of the model classes that an auto class has for a configuration; none where it does not know it."""
    mapping = auto._model_mapping
    found = mapping.get(type(config), ())
    return [kind.__name__ for kind in (found if isinstance(found, list | tuple) else (found,))]


def processor_settings(path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder says of its processor."""
    from transformers import ProcessorMixin

    return dict(ProcessorMixin.get_processor_dict(path, **options)[0])


def processor_class(name: str | None, config: Any) -> Any:
    """The processor class of this name, else the one that goes with the configuration."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    return getattr(transformers, name) if name and hasattr(transformers, name) else PROCESSOR_MAPPING[type(config)]


def best_resolution(size: tuple[int, int], resolutions: list[Any]) -> tuple[int, int]:
    """The (height, width) into which processors of tiles fit an image of this (height, width)."""
    from transformers.image_processing_utils import select_best_resolution

    height, width = select_best_resolution(size, resolutions)
    return int(height), int(width)


# Training


def checkpointing_options(is_on: bool, names: Collection[str]) -> dict[str, Any]:
    """Options of `TrainingArguments`, whose fields are `names`, by which activations are computed again."""
    name = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    return {name: is_on, f"{name}_kwargs": {"use_reentrant": False} if is_on else None}


# Generation


def given_to(generate: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of `generate` by name."""
    parameters = inspect.signature(generate).parameters.values()
    names = [part.name for part in parameters if part.kind is part.POSITIONAL_OR_KEYWORD]
    return dict(zip(names, args, strict=False)) | dict(kwargs)


PROCESSOR_MAKER = "_get_logits_processor"
"""The method of a model by which its `generate` makes the processors of its configuration, the caller's behind them."""


def placed_first(make: Callable[..., Any], first: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, a model's PROCESSOR_MAKER, with `first` before all others: a penalty is then taken of what it returns."""

    @functools.wraps(make)
    def ordered(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        rest = [each for each in made if each is not first]
        return type(made)([first, *rest]) if len(rest) < len(made) else made

    return ordered


def greedy_options(model: Any, tokens: int, processors: list[Any]) -> dict[str, Any]:
    """Options of a greedy `generate` of so many tokens that gives back the logits of each step."""
    # Settings of sampling that a model brings along would only be warned about.
    options: dict[str, Any] = dict.fromkeys(("temperature", "top_p", "top_k"))
    if getattr(model.generation_config, "pad_token_id", None) is None:
        options["pad_token_id"] = 0
    return options | {
        "do_sample": False,
        "num_beams": 1,
        "max_new_tokens": tokens,
        "min_new_tokens": tokens,
        "return_dict_in_generate": True,
        "output_logits": True,
        "logits_processor": LogitsProcessorList(processors),
    }


def assistance(model: Any, given: Mapping[str, Any]) -> str | None:
    """The setting by which a `generate` with these arguments drafts tokens ahead; None where it does not."""
    if given.get("assistant_model") is not None:
        return "assistant_model"
    configured = given.get("generation_config") or getattr(model, "generation_config", None)
    for name in _ASSISTED:
        if given.get(name) or (name not in given and getattr(configured, name, None)):
            return name
    return None


# Attention


def implementation_name(config: Any) -> str | None:
    """The name by which modules of this configuration look their attention up; None where none is set yet."""
    return config._attn_implementation_internal  # type: ignore[no-any-return]


def require_readable(module: nn.Module) -> None:
    """ModelError for an attention module whose function is not looked up under a name, or serves packed sequences."""
    config = getattr(module, "config", None)
    looked_up = LOOKUP in inspect.unwrap(type(module).forward).__globals__
    if not looked_up or not hasattr(config, "_attn_implementation_internal"):
        raise ModelError(
            f"{type(module).__name__} does not look its attention up in the interface of Transformers, so nothing can "
            "be read or changed."
        )
    name = str(implementation_name(config))
    if name.startswith("paged|"):
        raise ModelError(
            f"Attention of kind {name} serves continuous batching and can't be read: load with sdpa or eager."
        )


def selects_keys(module: nn.Module) -> bool:
    """Whether an attention module looks at keys that an indexer selects, its own or that of a layer before."""
    return hasattr(module, "indexer")


def open_attention_door(make: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Let every attention module find `make(implementation, function)` where it looks for its attention function.

    Its configuration keeps its own name: modules choose masks by it, and models with an indexer how they select keys.
    """
    kind: Any = type(ALL_ATTENTION_FUNCTIONS)
    own = kind.get_interface

    @functools.wraps(own)
    def get_interface(registry: Any, name: str | None, default: Callable[..., Any]) -> Callable[..., Any]:
        return make(name or "eager", own(registry, name, default))

    kind.get_interface = get_interface


def close_attention_door() -> None:
    """Let modules find their attention functions as they are."""
    kind: Any = type(ALL_ATTENTION_FUNCTIONS)
    kind.get_interface = kind.get_interface.__wrapped__
