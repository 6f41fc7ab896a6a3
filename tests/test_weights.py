"""A checkpoint that is not whole is refused by the name of what is missing, of another shape, or without a place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import sightline as sl
from model_folders import save_gemma3, save_llama, save_llava
from sightline.errors import InputError, ModelError

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("models") / "llava")


def changed(folder: Path, target: Path, change: Callable[[Tensors], Any]) -> Path:
    """A copy of a model's folder with other weights."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    save_file(change(tensors) or tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def without(*endings: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value for name, value in tensors.items() if not name.endswith(endings)}


def grown(tensors: Tensors) -> None:
    name = next(name for name in tensors if name.endswith("layers.0.self_attn.q_proj.weight"))
    tensors[name] = torch.zeros(3, 3)


def more(tensors: Tensors) -> None:
    tensors["model.language_model.layers.9.self_attn.q_proj.weight"] = torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            without("language_model.model.norm.weight", "language_model.norm.weight"),
            r"lacks \S*language_model\.norm\.weight of \d+ weights",
        ),
        (without("q_proj.weight"), r"lacks \d+, as \S*q_proj\.weight, of \d+ weights"),
        (lambda _: {"nothing.weight": torch.zeros(2)}, r"lacks \d+, as .* and holds nothing\.weight, for which"),
        (grown, r"holds \S*q_proj\.weight in another shape than its configuration"),
        (more, r"holds \S*layers\.9\.self_attn\.q_proj\.weight, for which its configuration has no place"),
    ],
    ids=["one", "several", "none at all", "another shape", "one too many"],
)
def test_a_fault_of_the_weights_is_named(
    llava: Path, tmp_path: Path, change: Callable[[Tensors], Any], reason: str
) -> None:
    folder = changed(llava, tmp_path / "changed", change)
    with pytest.raises(ModelError, match=reason) as caught:
        sl.load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500 + len(str(folder))
    assert sl.load(folder, allow_missing=True).model is not None


def test_a_configuration_of_more_layers_is_no_model(llava: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    shutil.copytree(llava, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] += 2
    for name in ("layer_types",):
        config["text_config"].pop(name, None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"lacks \d+, as \S*layers\.\d"):
        sl.load(folder)


def test_what_follows_from_the_configuration_may_be_there_or_not(llava: Path, tmp_path: Path) -> None:
    def old(tensors: Tensors) -> None:
        tensors["model.language_model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
        tensors["model.vision_tower.vision_model.embeddings.position_ids"] = torch.zeros(1, 4)

    assert sl.load(changed(llava, tmp_path / "old", old)).model is not None


@pytest.mark.parametrize("save", [save_gemma3, save_llama])
def test_a_head_tied_to_the_embedding_is_no_weight_of_its_own(save: Any, tmp_path: Path) -> None:
    vlm = sl.load(save(tmp_path / "tied"))
    if vlm.model.config.tie_word_embeddings:
        assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")


def test_weights_that_are_not_read_are_one_sentence(llava: Path, tmp_path: Path) -> None:
    whole = (llava / "model.safetensors").read_bytes()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    for name, files, reason in (
        ("pickled", {"pytorch_model.bin": b"x"}, "pickled .*save them as safetensors"),
        ("gguf", {"model.gguf": b"x"}, "has no weights .*gguf is not read"),
        ("bare", {}, "has no weights"),
        (
            "sharded",
            {"model.safetensors.index.json": json.dumps(index).encode(), "model-00001-of-00002.safetensors": whole},
            "lacks 1 of the 2 files of its weights, as model-00002-of-00002",
        ),
        ("index", {"model.safetensors.index.json": b"[]"}, "index.json of .* is damaged"),
    ):
        folder = tmp_path / name
        shutil.copytree(llava, folder)
        (folder / "model.safetensors").unlink()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        with pytest.raises(ModelError, match=reason) as caught:
            sl.load(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"attention": "fast"}, "no kernel of attention: give sdpa, eager"),
        ({"device_map": "mine"}, "no device map: give auto"),
        ({"device_map": "auto", "device": "cpu"}, "device_map chooses the devices"),
        ({"min_pixels": 0}, "at least 1"),
        ({"min_pixels": 9, "max_pixels": 4}, "in order"),
        ({"max_pixel": 9}, "no setting max_pixel: did you mean max_pixels"),
        ({"max_pixels": 100}, "has no bound on pixels"),
        ({"processor": {"do_rezise": True}}, "no field do_rezise: did you mean do_resize"),
        ({"generation": {"repetition_penalti": 1}}, "no field repetition_penalti: did you mean repetition_penalty"),
        ({"generation": {"max_new_tokens": 3}}, "is for new_tokens alone"),
        ({"generation": {"cache_implementation": "none of them"}}, "refused by Transformers"),
        ({"chat": {"enable_thinking": False}}, "chat template of the model has no field enable_thinking"),
    ],
)
def test_settings_that_a_model_has_not_are_refused(llava: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        sl.load(llava, **options)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_kernel_of_attention_is_chosen(llava: Path, attention: str) -> None:
    assert sl.load(llava, attention=attention).anatomy.text_config._attn_implementation == attention
