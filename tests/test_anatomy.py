"""The parts found in every family, in wrapped models, and the sentences for models that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from families import BY_NAME, EVERY, IMAGE, TEXT, VIDEO, Family, str_of
from sightline.attention.checks import check_model
from sightline.errors import ModelError
from sightline.models.anatomy import find_anatomy
from sightline.models.layout import layout_of
from support.families import core
from support.families.table import RECIPES


@pytest.mark.parametrize("family", EVERY, ids=str_of)
def test_every_part_is_found(family: Family) -> None:
    model = family.model()
    anatomy = find_anatomy(model)
    assert anatomy.model is model
    assert anatomy.decoder is model.get_submodule(anatomy.decoder_name)
    assert anatomy.head is model.get_output_embeddings()
    assert anatomy.embedding is model.get_input_embeddings()
    assert anatomy.norm is not None
    assert "norm" in type(anatomy.norm).__name__.lower()
    assert anatomy.hidden_size == 32
    without = [index for index, attention in enumerate(anatomy.attentions) if attention is None]
    assert tuple(without) == family.layers_without_attention
    assert any("no softmax attention" in sentence for sentence in anatomy.missing) == bool(without)
    for index in anatomy.attention_layers:
        attention = anatomy.attentions[index]
        assert attention is not None
        assert attention.layer_idx == index
        assert attention.config is anatomy.text_config
    if family.modality in (IMAGE, VIDEO) and "no_tower" not in family.tags:
        assert anatomy.vision_tower is not None
        assert anatomy.projector is not None or "no_projector" in family.tags
        assert not set(anatomy.vision_tower.modules()) & set(anatomy.layers)
    if family.modality == TEXT:
        assert not anatomy.is_multimodal


@pytest.mark.parametrize("family", EVERY, ids=str_of)
def test_the_logits_depend_on_the_attention_that_was_found(family: Family) -> None:
    anatomy = find_anatomy(family.model())
    case = family.make_inputs(batch=2, padding="left")
    assert check_model(anatomy, case.inputs, layout_of(anatomy, case.inputs)) == []


@pytest.mark.parametrize("family", EVERY, ids=str_of)
def test_it_prints_as_a_tree(family: Family) -> None:
    anatomy = find_anatomy(family.model())
    drawn = str(anatomy)
    assert drawn.startswith(type(family.model()).__name__)
    assert anatomy.decoder_name in drawn
    assert all(sentence in drawn for sentence in anatomy.missing)
    assert repr(anatomy) == drawn


def test_head_shape_counts_grouped_heads() -> None:
    anatomy = find_anatomy(BY_NAME["qwen2_5_vl"].model())
    assert (anatomy.num_heads, anatomy.num_key_value_heads, anatomy.head_dim) == (4, 2, 8)


class Wrapped(nn.Module):
    """What PEFT puts around a model."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.peft_config: dict[str, Any] = {}

    def get_base_model(self) -> Any:
        """The model inside."""
        return self.inner


def test_wrappers_are_taken_off() -> None:
    model = BY_NAME["llava"].model()
    assert find_anatomy(Wrapped(model)).model is model
    compiled = torch.compile(model)
    assert find_anatomy(compiled).model is model
    assert find_anatomy(Wrapped(compiled)).model is model


def test_of_an_omni_model_the_thinker() -> None:
    from transformers import AutoConfig, Qwen2_5OmniForConditionalGeneration

    thinker = RECIPES["qwen2_5_omni_thinker"].parts
    config = AutoConfig.for_model("qwen2_5_omni", thinker_config=thinker, enable_audio_output=False)
    model = Qwen2_5OmniForConditionalGeneration._from_config(config)
    anatomy = find_anatomy(model)
    assert anatomy.model is model.thinker
    assert anatomy.audio_tower is not None


def test_a_base_model_without_head() -> None:
    anatomy = find_anatomy(BY_NAME["llama"].model().model)
    assert anatomy.head is None
    assert any("no logits" in sentence for sentence in anatomy.missing)


def mllama() -> Any:
    return core.from_config(
        "mllama",
        text_config=core.text_sizes("mllama_text_model", cross_attention_layers=[1]),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 32,
        },
        image_token_index=core.IMAGE_ID,
    )


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=32))


def bert() -> Any:
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForMaskedLM(BertConfig(**sizes, vocab_size=32))


def bloom() -> Any:
    from transformers import BloomConfig, BloomForCausalLM

    return BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=32))


def clip() -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return CLIPVisionModel(CLIPVisionConfig(**sizes))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (mllama, "cross-attention (layer 1)"),
        (t5, "encoder-decoder"),
        (bert, "does not generate text"),
        (bloom, "attention interface"),
        (clip, "attention interface"),
        (lambda: nn.Linear(2, 2), "not a Transformers model"),
    ],
)
def test_refused_in_one_sentence(build: Callable[[], Any], said: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_anatomy(build())
    sentence = str(caught.value)
    assert said in sentence
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
