"""The language model begins from tiny-llava's, as the originals begin from a trained language model.

Layer for layer the decoders are alike: Llama's, to which Qwen2.5-VL adds biases (here zero at first) and Qwen3-VL norms
on queries and keys (here as large as tiny-llava's queries and keys are on average). A word keeps its embedding; the
special tokens take those of what stands in tiny-llava's template at their place, so that "<|im_start|>assistant" is at
first what "ASSISTANT:" was.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import sightline as sl
from sightline.zoo.render import render
from sightline.zoo.samples import MAKERS
from sightline.zoo.world import draw_scenes

TEACHER = "tiny-llava"
AS_BEFORE = {
    "<|endoftext|>": "<pad>",
    "<|im_start|>": "assistant",
    "assistant": ":",
    "<|im_end|>": "</s>",
    "<|vision_start|>": ":",
    "<|unknown|>": "<unk>",
    "system": "user",
}
"""Tokens that begin as another token of tiny-llava's; every other one as its own, or as the mean of all."""


def load_teacher() -> sl.VLM:
    """tiny-llava, which is not trained here."""
    teacher = sl.load(TEACHER)
    teacher.model.requires_grad_(False)
    return teacher


@torch.no_grad()
def begin(model: Any, tokenizer: PreTrainedTokenizerFast, teacher: sl.VLM) -> None:
    """Copies decoder and embeddings into the model."""
    language, llama = model.model.language_model, teacher.model.model.language_model
    words = llama.embed_tokens.weight
    known = teacher.tokenizer.get_vocab()
    rows = words.mean(0).repeat(len(tokenizer), 1)
    for word, index in tokenizer.get_vocab().items():
        if (like := AS_BEFORE.get(word, word)) in known:
            rows[index] = words[known[like]]
    language.embed_tokens.weight.copy_(rows)
    missing, unexpected = language.load_state_dict(llama.state_dict() | {"embed_tokens.weight": rows}, strict=False)
    if unexpected or any(not name.endswith(("proj.bias", "q_norm.weight", "k_norm.weight")) for name in missing):
        raise ValueError(f"the decoders are not alike: {missing} {unexpected}")
    for merger in getattr(model.model.visual, "deepstack_merger_list", ()):
        merger.linear_fc2.weight.zero_()  # DeepStack adds nothing yet
    if any(name.endswith("q_norm.weight") for name in missing):
        for layer, (queries, keys) in zip(language.layers, _sizes(teacher), strict=True):
            layer.self_attn.q_norm.weight.fill_(queries)
            layer.self_attn.k_norm.weight.fill_(keys)


def _sizes(teacher: sl.VLM, prompts: int = 16) -> list[tuple[float, float]]:
    """Root mean square of the queries and of the keys of every layer, over some prompts."""
    found: dict[int, list[Tensor]] = defaultdict(list)
    handles = []
    layers = teacher.model.model.language_model.layers
    for part in (part for layer in layers for part in (layer.self_attn.q_proj, layer.self_attn.k_proj)):
        handles.append(part.register_forward_hook(lambda module, _, out: found[id(module)].append(out.square().mean())))
    for index, scene in enumerate(draw_scenes(prompts, seed=3)):
        question = list(MAKERS.values())[index % len(MAKERS)](scene, random.Random(index))
        teacher.model(**teacher.encode(sl.Sample(image=render(scene), prompt=question.prompt)))
    for handle in handles:
        handle.remove()

    def size(part: Any) -> float:
        return float(torch.stack(found[id(part)]).mean().sqrt())

    return [(size(layer.self_attn.q_proj), size(layer.self_attn.k_proj)) for layer in layers]
