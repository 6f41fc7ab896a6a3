"""The cells of methods and families: how each method is set, which run, and what the others are told."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from families import AUDIO, BY_NAME, FAMILIES, IMAGE, PADDING, TEXT, VIDEO, Case
from methods.plain_decoding import NO_END
from sightline.methods.base import METHODS, Method, parse_spec

SPECS = {
    "var": "var:dims=3+11,tau=1.3,rho=0.6,summ=0.1,p=0.4",
    "var_random": "var_random:dims=3+11,tau=1.3,rho=0.6,summ=0.1,p=0.4",
    "mask_sinks": "mask_sinks:dims=3+11,tau=1.3",
    "mask_random": "mask_random:dims=3+11,tau=1.3",
    "pai": "pai:alpha=0.3,first_layer=1",
    "adhh": "adhh:heads=1.0+1.3+2.2,threshold=0.1",
    "cut_off": "cut_off:beta=0.9",
    "eah": "eah:threshold=0.02",
    "icd": "icd:tokens=21+22+23",
    "m3id": "m3id:lam=0.3",
    "spin": "spin:r=0.5",
    "avisc": "avisc:lam=0.3",
    "sid": "sid:keep=2",
    "memvr": "memvr:threshold=0.5,first_layer=0",
    "projectaway": "projectaway:tokens=33,layer=1,weight=2",
    "divprune": "divprune:keep=0.4",
    "cdpruner": "cdpruner:keep=0.4",
    "prune_random": "prune_random:keep=0.4",
    "pyramiddrop": "pyramiddrop:layers=1+2,keep=0.6+0.3",
    "sparsevlm": "sparsevlm:layers=1+2,keep=0.6+0.3",
    "visionzip": "visionzip:keep=0.5,merged=1",
    "yes_bias": "yes_bias:yes=3+4,no=5,mass=0,margin=1",
    "registers": "registers:neurons=0.3+0.5+1.1",
    "fastv": "fastv:R=0.6",
    "fastv_random": "fastv_random:R=0.6",
    "fastervlm": "fastervlm:r=0.6",
    "fastervlm_random": "fastervlm_random:r=0.6",
}
"""Settings that act on a tiny model; a method that is not named here has its defaults."""

OTHERS = ("opera", "repeat", "steer", "vti")
"""Those that measure, need a file made for the model, or are a loop of their own: their tests stand elsewhere."""
NAMES = [
    name for name, home in sorted(METHODS.homes.items()) if home.startswith("sightline.methods.") and name not in OTHERS
]

BASES = ("var", "pai", "vcd", "deco", "fastv", "fastervlm")
"""Methods that stand for their base: these run on every family, the others on six that differ. With SIGHTLINE_TEST_ALL
in the environment all run on all."""
SIX = ("llava", "llava_next", "qwen2_5_vl", "qwen3_vl", "gemma3", "paligemma")
CELLS = [
    (name, family.name)
    for name in NAMES
    for family in FAMILIES
    if name in BASES or family.name in SIX or "SIGHTLINE_TEST_ALL" in os.environ
]
OPTIONS: dict[str, Any] = {
    "max_new_tokens": 2,
    "eos_token_id": NO_END,
    "pad_token_id": 0,
    "do_sample": False,
    "suppress_tokens": [120, 121, 122],
    "output_scores": True,
    "return_dict_in_generate": True,
}
BEAMS: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 3}
COPIES: dict[str, Any] = {"do_sample": True, "top_k": 1, "num_return_sequences": 2}

ALIKE = {
    "fastervlm_random": "fastervlm",
    "fastv_random": "fastv",
    "pyramiddrop": "fastv",
    "sparsevlm": "fastv",
    "cdpruner": "divprune",
    "prune_random": "divprune",
}
NO_TOWER, WINDOWS, WHOLE, AHEAD = "no vision tower", "windows", "attend to all positions", "windows ahead"
NORMS, HANDED, NONE = "needs layers with two norms", "needs a projector that is handed", "this prompt has none"
WORDS_ALONE = [family.name for family in FAMILIES if family.modality in (TEXT, AUDIO)]
REFUSED: dict[str, dict[str, str]] = {
    "fastervlm": {
        "llava_onevision_video": NONE,
        "qwen2_5_vl": WINDOWS,
        "qwen2_5_vl_video": WINDOWS,
        "qwen3_vl_video": NONE,
        "qwen2_5_omni_thinker": WINDOWS,
        "gemma3": WINDOWS,
        "gemma4": "can't tell which of the 48 patches",
        "paligemma2": WINDOWS,
        "idefics2": "resampler",
        "mistral3": "can't tell which of the 48 patches",
        **dict.fromkeys(WORDS_ALONE, NO_TOWER),
    },
    "registers": {
        **dict.fromkeys(("qwen2_5_vl", "qwen2_5_vl_video", "qwen2_5_omni_thinker"), WINDOWS),
        **dict.fromkeys(WORDS_ALONE, NO_TOWER),
    },
    "adhh": {"qwen3_5": "no softmax attention"},
    "only": dict.fromkeys(("gemma2", "opt", "qwen3_5", "gemma3", "gemma4", "paligemma2"), NORMS),
    "divprune": dict.fromkeys(("gemma3", "gemma4", "paligemma2"), AHEAD),
    "visionzip": {
        **dict.fromkeys(("qwen2_5_vl", "qwen2_5_vl_video", "qwen2_5_omni_thinker"), WINDOWS),
        **dict.fromkeys(("qwen2_vl", "qwen3_vl", "qwen3_vl_video", "qwen3_vl_moe", "qwen3_5", "gemma4"), HANDED),
        **dict.fromkeys(("internvl", "mistral3", "pixtral"), HANDED),
        **dict.fromkeys(("gemma3", "paligemma2"), AHEAD),
        **dict.fromkeys(WORDS_ALONE, NO_TOWER),
        "llava_onevision_video": NONE,
        "idefics2": "resampler",
    },
    "sid": {"qwen3_5": "hides tokens from softmax attention"},
    "fastv": {
        "gemma2": WHOLE,
        "mistral": WHOLE,
        "gemma3": WHOLE,
        "gemma4": WHOLE,
        "qwen3_5": WHOLE,
        "paligemma2": WHOLE,
    },
}
"""What the refusal says; all other cells run. Families without pictures are refused by every method but the blind."""
BLIND = ("cut_off", "deco", "dola", "yes_bias")
"""Methods that act without an image as well."""


def refusal(name: str, family: str) -> str | None:
    words = REFUSED.get(ALIKE.get(name, name), {}).get(family)
    if name in BLIND or BY_NAME[family].modality not in (TEXT, AUDIO):
        return words
    return words or NONE


def method_of(name: str) -> Method:
    method = parse_spec(SPECS.get(name, name))
    assert method is not None
    return method


def alone(case: Case) -> dict[str, Tensor]:
    """The first sample of a batch of two, without its padding."""
    skip = sum(kind == PADDING for kind in case.modality[0])
    mine, every = (
        sum(kind in (IMAGE, VIDEO) for row in rows for kind in row) for rows in (case.modality[:1], case.modality)
    )

    def cut(value: Tensor) -> Tensor:
        if value.shape[:2] == case.inputs["input_ids"].shape:
            return value[:1, skip:]
        # One row a sample; else one an image, a tile or a patch.
        return value[: 1 if len(value) == 2 else len(value) * mine // every]

    return {name: cut(value) for name, value in case.inputs.items()}


def run(model: Any, inputs: dict[str, Tensor], **options: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        return model.generate(**inputs, **{**OPTIONS, **options})
