"""The plain twin of the decoding methods: no cache, a forward pass on the whole sequence for every token and prompt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from families import IMAGE, PADDING, TEXT, VIDEO, Case
from sightline.models.transformers_api.cache import cache_from, with_cache

STEPS = 3
NO_END = 999
"""An end token that no model has, so that no processor hides one and no row ends early."""
GREEDY: dict[str, Any] = {"max_new_tokens": STEPS, "eos_token_id": NO_END, "pad_token_id": 0, "do_sample": False}
RECORD: dict[str, Any] = {"output_scores": True, "output_logits": True, "return_dict_in_generate": True}


def grown(inputs: dict[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
    """The inputs with [batch, count] tokens behind the prompt."""
    longer = dict(inputs)
    longer["input_ids"] = torch.cat([inputs["input_ids"], tokens], 1)
    for name, value in inputs.items():
        if name.endswith("token_type_ids"):
            longer[name] = torch.cat([value, torch.zeros_like(tokens)], 1)
    longer["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(tokens)], 1)
    return longer


def text_alone(case: Case, sample: int) -> dict[str, Tensor]:
    """One sample's prompt without its image tokens, as a batch of one without padding."""
    chosen = torch.tensor([kind not in (PADDING, IMAGE, VIDEO) for kind in case.modality[sample]])
    ids = case.inputs["input_ids"][sample, chosen][None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return inputs | {n: v[sample, chosen][None] for n, v in case.inputs.items() if n == "token_type_ids"}


def last_logits(model: Any, inputs: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """[batch, vocabulary] behind the prompt and these tokens.

    A prefix that sees itself both ways must not see what is generated, so such a model runs on a cache of its own.
    """
    with torch.no_grad():
        if model.config.model_type == "paligemma":
            output = model(**inputs, use_cache=True)
            for step in range(tokens.shape[1]):
                mask = grown(inputs, tokens[:, : step + 1])["attention_mask"]
                cache = cache_from(output)
                step_inputs = {"input_ids": tokens[:, step : step + 1], "attention_mask": mask}
                output = model(**with_cache(step_inputs, cache, model))
            return output.logits[:, -1].float()
        return model(**grown(inputs, tokens), use_cache=False).logits[:, -1].float()


def contrasted(first: Tensor, second: Tensor, weight: float, floor: float) -> Tensor:
    """Scores of a contrast, written out on probabilities."""
    p, q = torch.softmax(first.double(), -1), torch.softmax(second.double(), -1)
    scores = (1 + weight) * p.log() - weight * q.log()
    scores[p < floor * p.max(-1, keepdim=True).values] = -torch.inf
    return scores


def is_text(case: Case) -> Tensor:
    """[batch, positions], bool."""
    return torch.tensor(case.modality) == TEXT
