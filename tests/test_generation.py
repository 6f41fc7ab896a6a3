"""How an answer is chosen: what of the model's configuration stays in force, and that a contrast comes before it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import RepetitionPenaltyLogitsProcessor

import sightline as sl
from model_folders import save_llama, save_llava, save_qwen
from sightline.errors import InputError
from sightline.methods.vcd import VCD
from sightline.models.vlm import chat
from sightline.models.vlm.generation import decoding_words, generate_options
from sightline.text import parse_fields

PICTURE = Image.radial_gradient("L").convert("RGB")
SAMPLE = sl.Sample("Describe the image.", image=PICTURE)


@pytest.fixture
def vlm() -> sl.VLM:
    return sl.load("tiny-llava", dtype="float32")


def first_scores(vlm: sl.VLM, **options: Any) -> torch.Tensor:
    inputs = vlm.encode(SAMPLE)
    kept = {"output_scores": True, "return_dict_in_generate": True}
    with torch.no_grad():
        output = vlm.model.generate(**inputs, max_new_tokens=1, do_sample=False, **kept, **options)
    return output.scores[0]


@pytest.mark.parametrize(
    "method", [sl.VCD(alpha=1.0, beta=0.0), sl.PAI(alpha=0.0, gamma=1.5, floor=0.0)], ids=["vcd", "pai"]
)
def test_a_contrast_comes_before_the_models_own_penalty(vlm: sl.VLM, method: Any) -> None:
    with method.on(vlm):
        plain = first_scores(vlm)
    vlm.model.generation_config.repetition_penalty = 1.3
    ids = vlm.encode(SAMPLE)["input_ids"]
    expected = RepetitionPenaltyLogitsProcessor(1.3)(ids, plain.clone())
    with method.on(vlm):
        found = first_scores(vlm)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3), "the penalty is in force"
    assert "_get_logits_processor" not in vlm.model.__dict__


def test_processors_of_the_caller_stay_behind_the_contrast(vlm: sl.VLM) -> None:
    with sl.VCD(alpha=1.0, beta=0.0).on(vlm):
        plain = first_scores(vlm)
        doubled = first_scores(vlm, logits_processor=[lambda _ids, scores: 2 * scores])
    assert torch.allclose(doubled, 2 * plain)


def test_two_contrasts_keep_their_order(vlm: sl.VLM) -> None:
    with sl.VCD(alpha=1.0, beta=0.0).on(vlm), sl.PAI(alpha=0.0, gamma=1.5, floor=0.0).on(vlm):
        before = first_scores(vlm)
        vlm.model.generation_config.repetition_penalty = 1.3
        after = first_scores(vlm)
    ids = vlm.encode(SAMPLE)["input_ids"]
    assert torch.allclose(after, RepetitionPenaltyLogitsProcessor(1.3)(ids, before.clone()), atol=1e-5)


def test_what_changes_scores_stays_in_force_and_is_recorded(vlm: sl.VLM) -> None:
    assert vlm.generation_record() == {"decoding": "greedy"}
    config = vlm.model.generation_config
    config.repetition_penalty, config.min_new_tokens, config.do_sample, config.temperature = 1.05, 3, True, 0.2
    config.num_beams = 4
    record = vlm.generation_record()
    assert record == {"decoding": "greedy", "repetition_penalty": 1.05, "min_new_tokens": 3}
    assert decoding_words(record) == "greedy, repetition_penalty 1.05, min_new_tokens 3"
    inputs = vlm.encode(SAMPLE)
    once = vlm.generate_tokens(inputs, max_new_tokens=8)
    assert once == vlm.generate_tokens(inputs, max_new_tokens=8), "nothing is drawn"
    with torch.no_grad():
        plain = vlm.model.generate(**inputs, max_new_tokens=8, do_sample=False, num_beams=1, temperature=None)
    assert once[0] == plain[0, inputs["input_ids"].shape[1] :].tolist()[: len(once[0])]


def test_a_field_of_generation_is_set_anew(tmp_path: Path) -> None:
    folder = save_llava(tmp_path / "llava")
    vlm = sl.load(folder, generation={"repetition_penalty": 5.0, "num_beams": 2})
    assert vlm.generation_record() == {"decoding": "beams", "repetition_penalty": 5.0, "num_beams": 2}
    plain = sl.load(folder)
    sample = sl.Sample("aaaa?", image=PICTURE)
    expected = plain.generate_tokens(plain.encode(sample), 6, repetition_penalty=5.0, num_beams=2)
    assert vlm.generate_tokens(vlm.encode(sample), 6) == expected
    assert vlm.generate_tokens(vlm.encode(sample), 6, repetition_penalty=1.0, num_beams=1) == plain.generate_tokens(
        plain.encode(sample), 6
    ), "a call's own settings come last"


def test_a_value_that_generation_refuses_is_one_sentence(tmp_path: Path) -> None:
    folder = save_llava(tmp_path / "llava")
    assert sl.load(folder, generation={"repetition_penalty": 2}).generation == {"repetition_penalty": 2.0}
    vlm = sl.load(folder, generation={"repetition_penalty": -1})
    with pytest.raises(InputError, match=r"refuses its settings \(repetition_penalty=-1\.0\)"):
        vlm.generate(sl.Sample("x", image=PICTURE), max_new_tokens=2)


def test_options_of_one_call_come_last() -> None:
    assert generate_options({"num_beams": 3}, {"num_beams": 2})["num_beams"] == 2
    assert "temperature" not in generate_options({"do_sample": True}, {})
    assert generate_options({}, {})["temperature"] is None


def test_fields_and_values_are_read() -> None:
    entries = ["a=1", "b=1.5", "c=true", "d=None", "e=word", 'f={"x": [1]}', "g=", "h=a=b", "i=NaN"]
    assert parse_fields(entries, "a=1") == {
        "a": 1,
        "b": 1.5,
        "c": True,
        "d": None,
        "e": "word",
        "f": {"x": [1]},
        "g": "",
        "h": "a=b",
        "i": "NaN",
    }
    for wrong, reason in ((["a"], "no FIELD=VALUE"), (["=1"], "no FIELD=VALUE"), (["a=1", "a=2"], "given twice")):
        with pytest.raises(InputError, match=reason):
            parse_fields(wrong, "a=1")


def test_bounds_on_pixels_are_the_processors(tmp_path: Path) -> None:
    folder = save_qwen(tmp_path / "qwen", "qwen2_5_vl", "Qwen2_5_VLProcessor")
    wide = PICTURE.resize((600, 400))

    def patches(**options: Any) -> int:
        return int(sl.load(folder, **options).encode(sl.Sample("x", image=wide))["image_grid_thw"].prod())

    assert patches(max_pixels=256) * 16 <= 256
    assert patches(min_pixels=5000, max_pixels=9000) * 16 >= 5000
    assert patches() * 16 <= 1024
    assert patches(processor={"size": {"shortest_edge": 64, "longest_edge": 256}}) == patches(max_pixels=256)
    with pytest.raises(InputError, match="crosses the model's own max_pixels"):
        patches(min_pixels=5000)


THINKING = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] if message['content'] is string else "
    "message['content'][-1]['text'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: "
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_llama(tmp_path_factory.mktemp("models") / "llama")
    (folder / "chat_template.jinja").write_text(THINKING)
    return folder


def test_a_model_that_thinks_is_known_by_its_chat_template(thinking: Path) -> None:
    quiet = sl.load(thinking, chat={"enable_thinking": False})
    assert sl.load(thinking).thinks
    assert not quiet.thinks
    assert not sl.load("tiny-llava").thinks
    read = quiet.tokenizer.decode(quiet.encode(sl.Sample("x?"))["input_ids"][0])
    assert read.endswith("assistant: <think>\n\n</think>\n\n")
    with pytest.raises(InputError, match="no field enable_thinkin: did you mean enable_thinking"):
        sl.load(thinking, chat={"enable_thinkin": False})


def test_a_template_that_never_ends_is_one_sentence(thinking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "PATIENCE", 0.2)
    vlm = copy.copy(sl.load(thinking))
    long = (
        "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(9) %}{% endfor %}{% endfor %}{% endfor %}"
    )
    vlm.tokenizer.chat_template = long
    for _ in range(2):
        with pytest.raises(InputError, match="does not end"):
            vlm.encode(sl.Sample("x?"))


def test_the_spec_of_a_method_is_no_setting_of_generation() -> None:
    assert VCD().spec() == "vcd"
