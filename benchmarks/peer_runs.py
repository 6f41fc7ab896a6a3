"""What each peer does for each task of `peers.py`: the same figures on the same weights, as its documentation has it.

A run gives what it found, so that it can be held against Sightline's: for `measuring` the attention on text and image,
[layers, 2], mean over heads and over the rows that predict the answer; for `knockout` the change of the predicted
token's log-probability; for `map` the log-probabilities of the last row under one cut; for `vcd` and `pai` the answer.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

import sightline as sl
from sightline.knockout.maps import causal_maps
from sightline.models.layout import Modality, TokenLayout

Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """One prompt for one model. new_tokens: of the answer; hidden: the position that is hidden from the last row."""

    model: Any
    inputs: dict[str, Tensor]
    layout: TokenLayout | None
    new_tokens: int
    hidden: int

    @property
    def length(self) -> int:
        """Positions of the prompt."""
        return int(self.inputs["input_ids"].shape[1])

    @property
    def layers(self) -> int:
        """Of the decoder."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def generating(self) -> dict[str, Any]:
        """Options of `generate`."""
        return {"max_new_tokens": self.new_tokens, "min_new_tokens": self.new_tokens, "do_sample": False}

    @cached_property
    def sides(self) -> Tensor:
        """[positions, 2]: 1 where a position is text, or image."""
        assert self.layout is not None
        return torch.stack([self.layout.mask(Modality.TEXT)[0], self.layout.mask(Modality.IMAGE)[0]], 1).float()

    def masses(self, rows: list[Tensor]) -> Tensor:
        """[layers, 2] of the heads' mean weights of each row, step by step and layer by layer."""
        shares = torch.stack([row[: self.length].float() @ self.sides for row in rows])
        return shares.reshape(-1, self.layers, 2).mean(0)

    def cut_mask(self) -> Tensor:
        """[1, 1, rows, keys]: causal, and the last row does not see the hidden position."""
        mask = torch.ones(self.length, self.length, dtype=torch.bool).tril()[None, None].clone()
        mask[..., -1, self.hidden] = False
        return mask


def twin(model: Any, attention: str | None = None) -> Any:
    """A model of its own on the same weights, which a peer may wrap and change."""
    shared = {id(part): part for part in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)
    if attention:
        copied.set_attn_implementation(attention)
    return copied


def change(clean: Tensor, cut: Tensor) -> Tensor:
    """Of the predicted token's log-probability; logits of the last row each."""
    token = clean.argmax()
    return (cut.float().log_softmax(-1)[token] - clean.float().log_softmax(-1)[token])[None]


@cache
def tokenizer() -> Any:
    """One of two words, for libraries that ask for one: the prompts here are ids. It is read again from its folder."""
    from tokenizers import Tokenizer, models
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    made = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="a", bos_token="a", eos_token="b")
    folder = tempfile.TemporaryDirectory()
    made.save_pretrained(folder.name)
    found = AutoTokenizer.from_pretrained(folder.name)
    found.folder = folder
    return found


def plain_generation(case: Case) -> Run:
    return lambda: case.model.generate(**case.inputs, **case.generating)[0, -case.new_tokens :]


def plain_pass(case: Case) -> Run:
    return lambda: case.model(**case.inputs, logits_to_keep=1).logits[0, -1]


def sightline_measuring(case: Case) -> Run:
    def run() -> Tensor:
        with sl.Dominance(queries="generated").on(case.model, case.layout) as probe:
            case.model.generate(**case.inputs, **case.generating)
        (sample,) = probe.result().samples
        return torch.tensor([[layer.masses["text"], layer.masses["image"]] for layer in sample.layers])

    return run


def eager_measuring(case: Case) -> Run:
    model = twin(case.model, "eager")
    options = {"output_attentions": True, "return_dict_in_generate": True}

    def run() -> Tensor:
        kept = model.generate(**case.inputs, **case.generating, **options).attentions
        return case.masses([layer[0, :, -1].mean(0) for step in kept for layer in step])

    return run


def hook_measuring(case: Case) -> Run:
    model = twin(case.model, "eager")

    def run() -> Tensor:
        rows: list[Tensor] = []
        handles = [
            layer.self_attn.register_forward_hook(lambda _, __, output: rows.append(output[1][0, :, -1].mean(0)))
            for layer in model.model.layers
        ]
        model.generate(**case.inputs, **case.generating)
        for handle in handles:
            handle.remove()
        return case.masses(rows)

    return run


def nnsight_measuring(case: Case) -> Run:
    model = traced(case, "eager")

    def run() -> Tensor:
        with model.generate(**case.inputs, **case.generating) as tracer:
            rows = [].save()  # type: ignore[attr-defined]
            for _ in tracer.iter[: case.new_tokens]:
                for layer in model.model.layers:
                    rows.append(layer.self_attn.output[1][0, :, -1].mean(0))
        return case.masses(rows)

    return run


def lens_measuring(case: Case) -> Run:
    model = bridged(case)
    options = {"max_new_tokens": case.new_tokens, "do_sample": False, "stop_at_eos": False, "verbose": False}

    def run() -> Tensor:
        rows: list[Tensor] = []

        def keep(pattern: Tensor, hook: Any) -> None:
            rows.append(pattern[0, :, -1].mean(0))

        names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(case.layers)]
        with model.hooks(fwd_hooks=[(name, keep) for name in names]):
            model.generate(case.inputs["input_ids"], prepend_bos=False, **options)
        return case.masses(rows)

    return run


def traced(case: Case, attention: str | None = None) -> Any:
    """The model under nnsight."""
    from nnsight import TransformersModel

    return TransformersModel(twin(case.model, attention), task="text-generation", tokenizer=tokenizer())


def bridged(case: Case) -> Any:
    """The model under TransformerLens, whose hooks are there on eager attention alone."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        "made/here", hf_model=twin(case.model), tokenizer=tokenizer(), device="cpu", dtype=torch.float32
    )


def sightline_knockout(case: Case) -> Run:
    window = 2 * case.layers + 1

    def run() -> Tensor:
        maps = causal_maps(case.model, case.inputs, case.layout, [(case.hidden,)], layers=[0], window=window)
        return maps["logprob"].flatten()

    return run


def sightline_map(case: Case) -> Run:
    groups = [(position,) for position in range(case.length)]
    return lambda: causal_maps(case.model, case.inputs, case.layout, groups)["logprob"]


@contextmanager
def cut_by_hooks(case: Case, layers: list[int]) -> Iterator[None]:
    """Forward hooks that hand these layers a mask in which the last row does not see the hidden position."""
    mask = case.cut_mask()

    def given(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "attention_mask": mask}

    attentions = [case.model.model.layers[layer].self_attn for layer in layers]
    handles = [each.register_forward_pre_hook(given, with_kwargs=True) for each in attentions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def cut_pass(case: Case, peer: str, layers: list[int]) -> Run:
    """One pass with the hidden position cut from the last row in these layers: its logits."""
    if peer == "hook":

        def hooked() -> Tensor:
            with cut_by_hooks(case, layers):
                return case.model(**case.inputs, logits_to_keep=1).logits[0, -1]

        return hooked
    if peer == "nnsight":
        model = traced(case)

        def traced_pass() -> Tensor:
            mask = case.cut_mask()
            with model.trace(**case.inputs, logits_to_keep=1):
                for layer in layers:
                    args, kwargs = model.model.layers[layer].self_attn.inputs
                    model.model.layers[layer].self_attn.inputs = (args, {**kwargs, "attention_mask": mask})
                logits = model.output.logits.save()
            return logits[0, -1]

        return traced_pass
    bridge = bridged(case)
    names = [f"blocks.{layer}.attn.hook_attn_scores" for layer in layers]

    def cut(scores: Tensor, hook: Any) -> Tensor:
        scores[:, :, -1, case.hidden] = -torch.inf
        return scores

    def bridged_pass() -> Tensor:
        hooks = [(name, cut) for name in names]
        return bridge.run_with_hooks(case.inputs["input_ids"], fwd_hooks=hooks, logits_to_keep=1)[0, -1]

    return bridged_pass


def peer_knockout(case: Case, peer: str) -> Run:
    """The pass as it is and the one with every layer cut."""
    cut = cut_pass(case, peer, list(range(case.layers)))
    clean = cut_pass(case, peer, []) if peer != "hook" else plain_pass(case)
    return lambda: change(clean(), cut())
