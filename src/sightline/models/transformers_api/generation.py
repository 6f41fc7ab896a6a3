"""What `generate` is given, and how it makes its processors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from transformers import GenerationMixin as GenerationMixin
from transformers import LogitsProcessorList as LogitsProcessorList

_ASSISTED = ("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp")
"""Settings of `generate` that draft several tokens, of which the model keeps some."""

CONTINUOUS_BATCHING = ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager")
"""Methods of a model that serve many prompts in one packed sequence, under plain names since 5.23."""


def given_to(generate: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of `generate` by name."""
    parameters = inspect.signature(generate).parameters.values()
    names = [part.name for part in parameters if part.kind is part.POSITIONAL_OR_KEYWORD]
    return dict(zip(names, args, strict=False)) | dict(kwargs)


PROCESSOR_MAKER = "_get_logits_processor"
"""The method of a model by which its `generate` makes the processors of its configuration, the caller's behind them."""


def placed_first(make: Callable[..., Any], first: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, a model's PROCESSOR_MAKER, with `first` before all others: a penalty is then taken of what it returns.

    Also where the model's own `generate` loses the processors that it is given, as Janus's does.
    """

    @functools.wraps(make)
    def ordered(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        return type(made)([first, *(each for each in made if each is not first)])

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
    return next((name for name in _ASSISTED if option_of(model, given, name)), None)


def option_of(model: Any, given: Mapping[str, Any], name: str) -> Any:
    """An option of a `generate` with these arguments, or of its configuration; None without one."""
    if name in given:
        return given[name]
    return getattr(given.get("generation_config") or getattr(model, "generation_config", None), name, None)
