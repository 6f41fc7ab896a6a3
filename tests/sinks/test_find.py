"""Planted sinks are found exactly, a model without has none, and a sinks file fits its model alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from families import BY_NAME, FAMILIES, Family, str_of
from model_folders import save_llava
from sightline.attention import attach, limit_block_bytes
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.models.anatomy import find_anatomy
from sightline.models.vlm import load
from sightline.probes.sinks import Sinks, known_sinks, phi, read_sinks, search_sinks
from sightline.probes.sinks.check import attention_received
from sightline.probes.sinks.find import Survey, choose, survey
from sinks.planted import SINK_PATCHES, build_planted, planted_case
from support.leftovers import state_of

PLANTED = [((5,), 32), ((3, 17), 32), ((1, 9, 20), 32), ((3, 17), 64), ((2, 40, 100), 128)]


@pytest.mark.parametrize(("dims", "hidden"), PLANTED)
def test_planted_dimensions_are_found_and_agree_with_attention(dims: tuple[int, ...], hidden: int) -> None:
    model = build_planted(dims, hidden)
    model(**planted_case().inputs)  # a first pass leaves hooks of the library's own
    state = state_of(model)
    prompts = [planted_case(seed=0).inputs, planted_case(batch=2, padding="left", images=2, seed=1).inputs]
    prompts.append(planted_case(batch=2, padding="right", seed=2).inputs)
    sinks = search_sinks(model, prompts)
    assert sinks.dims == dims
    assert sinks.precision == sinks.recall == 1.0
    assert sinks.gap == 1.0
    assert sinks.candidates[: len(dims)] == tuple((dim, 1.0) for dim in dims)
    assert sinks.samples == 5
    assert [layer.layer for layer in sinks.layers] == [2, 3, 4, 5]
    for layer in sinks.layers:
        assert layer.image_sinks == len(SINK_PATCHES) * (1 + 2 + 2 + 1 + 1) / 5
        assert layer.text_sinks == 1
    # One planted patch is a corner, one the middle; eight of nine patches touch the border.
    assert sinks.on_border == 0.5
    assert sinks.border == pytest.approx(8 / 9)
    assert state_of(model) == state


@pytest.mark.parametrize("family", FAMILIES, ids=str_of)
def test_a_random_model_has_none(family: Family) -> None:
    model = family.model()
    sinks = search_sinks(model, [family.make_inputs(batch=2, padding="left").inputs])
    assert sinks.dims == ()
    assert sinks.gap is None
    assert sinks.precision is None
    assert all(layer.image_sinks == layer.text_sinks == 0 for layer in sinks.layers)
    assert "no sink dimensions" in str(sinks)


def test_a_text_model_has_its_sinks_found() -> None:
    model = build_planted((3, 17)).model.language_model
    torch.manual_seed(0)
    prompts = [{"input_ids": torch.cat([torch.tensor([[1]]), torch.randint(10, 100, (1, 20))], 1)} for _ in range(3)]
    from transformers import LlamaForCausalLM

    text = LlamaForCausalLM(model.config).eval()
    text.model.load_state_dict(model.state_dict())
    sinks = search_sinks(text, prompts)
    assert sinks.dims == (3, 17)
    assert sinks.precision == sinks.recall == 1.0
    assert {(layer.image_sinks, layer.text_sinks) for layer in sinks.layers} == {(0, 1)}


def test_phi_is_its_formula() -> None:
    states = torch.randn(2, 5, 16) * 30
    expected = states[..., [2, 7]].abs().amax(-1) / (states.square().mean(-1) + 1e-6).sqrt()
    assert torch.allclose(phi(states, (2, 7)), expected)
    assert torch.equal(phi(states, ()), torch.zeros(2, 5))
    assert float(phi(torch.eye(16)[None] * 1e4, range(16)).max()) == pytest.approx(4)


def test_attention_received_is_its_formula() -> None:
    family = BY_NAME["gemma3"]
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    found: dict[int, tuple[Any, Any, Any]] = {}

    class Received:
        def begin(self, step: Any) -> None: ...
        def end(self, step: Any) -> None: ...

        def read(self, layer: int, attention: Any, step: Any) -> None:
            weights = attention.row_weights(torch.arange(attention.call.queries))
            seen = attention.call.visible(torch.arange(attention.call.queries))[:, 0]
            found[layer] = attention_received(attention, step), weights.mean(1), seen

    with torch.no_grad(), attach(find_anatomy(model), reader=Received()), limit_block_bytes(5_000):
        model(**case.inputs)
    text = torch.tensor(case.modality) == 1
    for received, weights, seen in found.values():
        for b in range(2):
            for j in range(weights.shape[-1]):
                rows = [i for i in range(j + 1, weights.shape[1]) if text[b, i] and seen[b, i, j]]
                ratios = [float(weights[b, i, j] * seen[b, i].sum()) for i in rows if seen[b, i].sum() >= 8]
                expected = sum(ratios) / len(ratios) if ratios else 0.0
                assert float(received[b, j]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_gap_decides() -> None:
    def surveys(**hits: int) -> list[Survey]:
        return [Survey(10, {int(name[1:]): count for name, count in hits.items()}, {})] * 3

    assert choose(surveys(d7=9, d3=9, d1=3), 4096).dims == (3, 7)
    assert choose(surveys(d7=9, d3=9, d1=3), 4096).gap == pytest.approx(0.6)
    assert choose(surveys(d7=2, d3=1), 4096).dims == ()
    assert choose([], 4096).dims == ()
    assert choose(surveys(d7=9), 4096).tau == 20
    assert choose(surveys(d7=9), 64).tau == pytest.approx(3.2)
    assert choose([Survey(10, {7: 9}, {7: 8})], 900).tau == 20
    assert choose(surveys(d7=9), 64, tau=5).tau == 5


def test_a_survey_survives_its_dictionary() -> None:
    model = build_planted((3, 17))
    case = planted_case(batch=2)
    (first, second) = survey(find_anatomy(model), lambda: model(**case.inputs))
    assert Survey.from_dict(json.loads(json.dumps(first.to_dict()))) == first
    assert set(first.hits) == set(second.hits) == {3, 17}


def test_a_prompt_in_pieces_is_one_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_planted((3, 17))
    case = planted_case()
    monkeypatch.setattr("sightline.probes.sinks.find._CHUNK_BYTES", 1)
    assert search_sinks(model, [case.inputs]).dims == (3, 17)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("models") / "llava")


def test_samples_with_pictures_and_a_file(folder: Path, tmp_path: Path) -> None:
    vlm = load(folder)
    samples = [Sample(prompt="What is it?", image=Image.new("RGB", (40, 40), colour)) for colour in ("red", "blue")]
    sinks = search_sinks(vlm, samples, batch_size=2)
    assert sinks.samples == 2
    assert sinks.model == vlm.name
    assert sinks.background == 1.0
    path = sinks.save(tmp_path)
    document = json.loads(path.read_text())
    assert {"model", "dims", "tau", "gap", "precision", "recall", "candidates", "layers"} <= set(document)
    again = read_sinks(tmp_path)
    assert again == sinks
    again.require_model(vlm.name, vlm.revision, vlm.anatomy.hidden_size)
    table = sinks.to_pandas()
    assert table[table.metric == "image_sinks"].value.tolist() == [layer.image_sinks for layer in sinks.layers]
    sinks.plot()


def test_mistakes_are_said(folder: Path, tmp_path: Path) -> None:
    sinks = Sinks("org/one", (3,), 20.0, revision="a", hidden_size=64)
    sinks.save(tmp_path / "sinks.json")
    read = read_sinks(tmp_path / "sinks.json")
    with pytest.raises(InputError, match=r"sinks.json are those of org/one, and the model is org/two: find"):
        read.require_model("org/two", "a", 64)
    with pytest.raises(InputError, match="found on revision a of org/one, and the one loaded is b"):
        read.require_model("org/one", "b", 64)
    with pytest.raises(InputError, match="64 hidden dimensions"):
        read.require_model("org/one", "a", 32)
    with pytest.raises(InputError, match="cannot be read"):
        read_sinks(tmp_path / "missing.json")
    for text, said in (("{", "not JSON"), ("[]", "no sinks file"), ('{"dims": [1]}', "no sinks file")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=said):
            read_sinks(tmp_path / "bad.json")
    with pytest.raises(InputError, match="no samples"):
        search_sinks(BY_NAME["llava"].model(), [])
    with pytest.raises(InputError, match="tau is 0"):
        search_sinks(BY_NAME["llava"].model(), [{}], tau=0)
    with pytest.raises(InputError, match="no processor"):
        search_sinks(BY_NAME["llava"].model(), Sample(prompt="x"))


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("llava-hf/llava-1.5-7b-hf", (1415, 2533)),
        ("liuhaotian/llava-v1.5-13b", (2100, 4743)),
        ("Qwen/Qwen2.5-VL-7B-Instruct", (458, 2570)),
        ("Qwen/Qwen2.5-VL-3B-Instruct", (1819, 1874)),
        ("OpenGVLab/InternVL2-8B", (3584,)),
        ("meta-llama/Meta-Llama-3-8B", (788, 1384, 4062)),
        ("OpenGVLab/InternVL2_5-8B", None),
        ("meta-llama/Llama-3.1-8B", None),
        ("meta-llama/Llama-2-70b", None),
        ("tiny-llava", None),
    ],
)
def test_reported_dimensions_are_hints_by_name(name: str, dims: tuple[int, ...] | None) -> None:
    found = known_sinks(name)
    assert (found.dims if found else None) == dims
