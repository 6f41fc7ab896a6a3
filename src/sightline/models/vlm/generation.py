"""How an answer is chosen: what of a model's own generation configuration stays in force, decided here alone.

Greedy: the likeliest token, one sequence. Of the model's generation configuration, what changes scores stays in force
(penalties, least lengths, suppressed and forced tokens: `IN_FORCE`), and so do its special tokens; sampling, beams and
lengths do not. Each can be set anew (`sl.load(generation={...})`, `--generation FIELD=VALUE`). A method that combines
logits comes first, the rest after it (`transformers_api.placed_first`), so that a penalty is taken once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.errors import InputError
from sightline.text import nearest

IN_FORCE = (
    "repetition_penalty",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "min_length",
    "min_new_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "sequence_bias",
    "exponential_decay_length_penalty",
    "guidance_scale",
    "remove_invalid_values",
    "renormalize_logits",
)
"""Fields that change scores. A model that sets one is run with it."""

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
_NEUTRAL = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "guidance_scale": 1.0,
}
_FRACTIONS = (*_SAMPLING, "repetition_penalty", "encoder_repetition_penalty", "length_penalty", "guidance_scale")
"""Fields of which Transformers wants a number with a point."""

_LENGTHS = ("max_length", "max_new_tokens", "max_time", "stop_strings")


def check_generation(model: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are set anew.

    Raises:
        InputError: for one that a generation configuration has not, or that the number of new tokens decides, and for a
            value that Transformers refuses.
    """
    if not fields:
        return {}
    from transformers import GenerationConfig

    plain = GenerationConfig()
    known = [name for name in vars(plain) if not name.startswith("_") and name not in _LENGTHS]
    for name in fields:
        if name in _LENGTHS:
            raise InputError(f"The field {name} of generation is for new_tokens alone, by which an answer ends.")
        if name not in known:
            near = nearest(name, known)
            hint = f": did you mean {near[0]}?" if near else "."
            raise InputError(f"Generation has no field {name}{hint}")
    fields = {
        name: float(value) if name in _FRACTIONS and type(value) is int else value for name, value in fields.items()
    }
    try:
        GenerationConfig(**fields).validate()
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"The settings of generation are refused by Transformers: {reason}") from error
    return dict(fields)


def generate_options(fields: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the model's `generate`: greedy, then what was set anew, then this call's own."""
    settings: dict[str, Any] = {"do_sample": False, "num_beams": 1, **fields, **options}
    if not settings["do_sample"]:  # the model's own would only be warned about
        settings = {**dict.fromkeys(("temperature", "top_p", "top_k"), None), **settings}
    return settings


def generation_record(model: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a run records of how its answers were chosen: the decoding, and every field in force that changes scores."""
    own = getattr(model, "generation_config", None)
    settings = {name: getattr(own, name, None) for name in IN_FORCE} | dict(fields)
    kept = {
        name: value
        for name, value in settings.items()
        if value is not None and value is not False and value != _NEUTRAL.get(name) and value not in ([], {}, ())
    }
    return {"decoding": "sampled" if fields.get("do_sample") else decoding(fields), **kept}


def decoding(fields: Mapping[str, Any]) -> str:
    """greedy or beams."""
    return "greedy" if fields.get("num_beams", 1) == 1 else "beams"


def decoding_words(record: Mapping[str, Any]) -> str:
    """The record in words: "greedy, repetition_penalty 1.05"."""
    rest = [f"{name} {value}" for name, value in record.items() if name != "decoding"]
    return ", ".join([str(record["decoding"]), *rest])
