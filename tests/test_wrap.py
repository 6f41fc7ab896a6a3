"""Models in memory, with adapters or without a processor; folders of adapters; answers whole, in numbers, in pieces."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import sightline as sl
from families import BY_NAME
from model_folders import save_llama, save_llava
from sightline.errors import InputError, ModelError
from sightline.models.vlm.fingerprint import folder_fingerprint, model_folder

PICTURE = Image.radial_gradient("L").convert("RGB")
SAMPLE = sl.Sample("Is there a red circle?", image=PICTURE)


@pytest.fixture(scope="module")
def tiny() -> sl.VLM:
    return sl.load("tiny-llava", dtype="float32")


def test_a_model_in_memory_is_read_like_the_loaded_one(tiny: sl.VLM) -> None:
    processor = tiny.processor
    tiny.model.train()
    vlm = sl.wrap(tiny.model, processor)
    assert not vlm.model.training
    assert vlm.generate(SAMPLE, max_new_tokens=5) == tiny.generate(tiny.encode(SAMPLE), max_new_tokens=5)
    assert sl.wrap(tiny.model, processor, name="mine").name == "mine"


def test_a_wrapped_processor_stays_as_it_was(tiny: sl.VLM) -> None:
    import copy

    processor = copy.copy(tiny.processor)
    processor.tokenizer = copy.deepcopy(tiny.tokenizer)
    processor.tokenizer.padding_side = "right"
    vlm = sl.wrap(tiny.model, processor)
    assert (processor.tokenizer.padding_side, vlm.tokenizer.padding_side) == ("right", "left")
    two = [SAMPLE, sl.Sample("What?", image=PICTURE)]
    assert vlm.generate(two, max_new_tokens=4) == tiny.generate(two, max_new_tokens=4)


def test_samples_messages_and_inputs_are_answered_alike(tiny: sl.VLM) -> None:
    plain = tiny.generate(tiny.encode(SAMPLE), max_new_tokens=5)
    turns = [
        {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": SAMPLE.prompt}]}
    ]
    row = {"prompt": SAMPLE.prompt, "image": PICTURE}
    assert isinstance(plain, str)
    assert [tiny.generate(form, max_new_tokens=5) for form in (SAMPLE, turns, row)] == [plain] * 3
    assert tiny.generate([SAMPLE, turns], max_new_tokens=5) == [plain] * 2
    assert tiny.generate([SAMPLE], max_new_tokens=5) == [plain], "a list is answered by a list"
    with pytest.raises(InputError, match="is no sample"):
        tiny.generate(7)


def test_an_answer_has_its_tokens_log_probabilities_and_seconds(tiny: sl.VLM) -> None:
    answer = tiny.ask(PICTURE, SAMPLE.prompt, max_new_tokens=5)
    inputs = tiny.encode(SAMPLE)
    (tokens,) = tiny.generate_tokens(inputs, max_new_tokens=5)
    assert (answer.text, list(answer.tokens)) == (tiny.generate(inputs, max_new_tokens=5), tokens)
    assert str(answer) == answer.text
    assert 0 < answer.seconds < 60
    ids = inputs["input_ids"]
    for token, found in zip(tokens, answer.logprobs or (), strict=True):  # each from a pass without a cache
        with torch.no_grad():
            logits = tiny.model(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[0, -1]
        assert found == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-4)
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    assert tiny.ask(PICTURE, SAMPLE.prompt, max_new_tokens=2, num_beams=2).logprobs is None


def test_a_method_acts_while_a_question_is_answered(tiny: sl.VLM) -> None:
    method = sl.VCD(alpha=3.0)
    with method.on(tiny):
        inside = tiny.generate(SAMPLE, max_new_tokens=6)
    answer = tiny.ask(PICTURE, SAMPLE.prompt, method=method, max_new_tokens=6)
    assert answer.text == inside
    assert all(math.isfinite(value) for value in answer.logprobs or ())
    assert "generate" not in tiny.model.__dict__
    with pytest.raises(InputError, match="give a method itself"):
        tiny.ask(PICTURE, "what?", method="vcd")


def test_words_alone_are_answered_without_a_picture(tiny: sl.VLM) -> None:
    assert tiny.ask(None, "Is there a red circle?", max_new_tokens=2).text
    with pytest.raises(InputError, match="without an image"):
        tiny.generate(sl.Sample("Is there a red circle?"))


@pytest.mark.parametrize("prompt", ["Describe the image.", "Is there a red circle?"])
def test_the_pieces_of_a_stream_are_the_answer(tiny: sl.VLM, prompt: str) -> None:
    sample = sl.Sample(prompt, image=PICTURE)
    pieces = list(tiny.stream(sample, max_new_tokens=12))
    assert "".join(pieces) == tiny.generate(sample, max_new_tokens=12)
    assert len(pieces) > 1 or len(tiny.generate_tokens(tiny.encode(sample), 12)[0]) <= 2
    changed = "".join(tiny.stream(sample, method=sl.VCD(alpha=3.0), max_new_tokens=12))
    assert changed == tiny.ask(PICTURE, prompt, method=sl.VCD(alpha=3.0), max_new_tokens=12).text


def test_a_stream_that_is_left_ends_and_errors_reach_the_reader(tiny: sl.VLM) -> None:
    stream = tiny.stream(sl.Sample("Describe the image.", image=PICTURE), max_new_tokens=200)
    next(stream)
    stream.close()  # joins the thread: this would hang if the generation went on for ever
    assert tiny.generate(SAMPLE, max_new_tokens=2)
    with pytest.raises(InputError, match="max_new_tokens"):
        list(tiny.stream(SAMPLE, max_new_tokens=0))
    with pytest.raises(InputError, match="One answer is streamed"):
        tiny.stream(tiny.encode([SAMPLE, SAMPLE]))
    with pytest.raises(InputError, match="num_beams"):
        tiny.stream(SAMPLE, num_beams=2)


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "llama"])
def test_a_bare_model_works_with_what_its_forward_takes(family: str) -> None:
    model: Any = BY_NAME[family].model()
    inputs = BY_NAME[family].make_inputs(batch=1).inputs
    vlm = sl.wrap(model)
    with sl.Dominance().on(model) as probe:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert probe.result().samples
    found = sl.impact(model, inputs, mode="causal").to_dict()
    assert found["layers"]
    assert sl.impact(vlm, inputs, mode="causal").to_dict()["maps"] == found["maps"]
    assert vlm.generate_tokens(inputs, max_new_tokens=2)
    for act, reason in ((lambda: vlm.encode(SAMPLE), "encode a sample"), (lambda: vlm.generate(inputs), "decode an")):
        with pytest.raises(InputError, match=f"without a processor and cannot {reason}"):
            act()


def adapted(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    names = [name for name, _ in model.named_modules() if name.endswith(("q_proj", "v_proj")) and "vision" not in name]
    tuned = get_peft_model(model, LoraConfig(r=2, lora_alpha=64, target_modules=names, init_lora_weights=False))
    return tuned.eval()


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A folder of adapters for a bundled model, and the logits that the model has with them."""
    folder = tmp_path_factory.mktemp("adapters")
    vlm = sl.load("tiny-llava", dtype="float32")
    tuned = adapted(vlm.model)
    tuned.save_pretrained(folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "tiny-llava"}))
    with torch.no_grad():
        return folder, tuned(**vlm.encode(SAMPLE)).logits


def logits_of(vlm: sl.VLM) -> torch.Tensor:
    with torch.no_grad():
        return vlm.model(**vlm.encode(SAMPLE)).logits


def test_a_folder_of_adapters_loads_its_base_and_itself(adapters: tuple[Path, torch.Tensor], tiny: sl.VLM) -> None:
    folder, expected = adapters
    vlm = sl.load(folder, dtype="float32")
    assert torch.equal(logits_of(vlm), expected)
    assert not torch.equal(logits_of(vlm), logits_of(tiny))
    assert vlm.name == str(folder)


def test_a_model_with_adapters_is_wrapped(tiny: sl.VLM) -> None:
    vlm = sl.load("tiny-llava", dtype="float32")
    tuned = adapted(vlm.model)
    wrapped = sl.wrap(tuned, vlm.processor)
    with torch.no_grad():
        assert torch.equal(logits_of(wrapped), tuned(**vlm.encode(SAMPLE)).logits)
    assert not torch.equal(logits_of(wrapped), logits_of(tiny))


def test_adapters_of_another_base_have_another_fingerprint(adapters: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder, _ = adapters
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    assert model_folder(folder) == folder
    assert folder_fingerprint(other) == folder_fingerprint(folder)
    settings = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "tiny-llava-early"}))
    assert folder_fingerprint(other) != folder_fingerprint(folder)


def test_adapters_that_do_not_fit_are_refused(adapters: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder, _ = adapters
    bases = {"llava": str(save_llava(tmp_path / "llava")), "none": None, "far": "nobody/no-such-model"}
    for name, base in bases.items():
        shutil.copytree(folder, tmp_path / name / "adapter")
        settings = json.loads((folder / "adapter_config.json").read_text())
        settings["base_model_name_or_path"] = base
        (tmp_path / name / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    shutil.copytree(folder, tmp_path / "weightless")
    (tmp_path / "weightless" / "adapter_model.safetensors").unlink()
    shutil.copytree(folder, tmp_path / "cut")
    cut = (folder / "adapter_model.safetensors").read_bytes()
    (tmp_path / "cut" / "adapter_model.safetensors").write_bytes(cut[: len(cut) // 2])
    for place, reason in {
        "llava/adapter": "do not fit their base|belong to another model",
        "none/adapter": "names no base model",
        "far/adapter": "hub cannot be reached",
        "weightless": "have no weights",
        "cut": "damaged or cut short",
    }.items():
        with pytest.raises(ModelError, match=reason) as caught:
            sl.load(tmp_path / place)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) <= 500


def test_adapters_that_lack_a_tensor_are_refused_by_its_name(
    adapters: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapters[0], tmp_path / "short")
    file = tmp_path / "short" / "adapter_model.safetensors"
    tensors = load_file(file)
    gone = sorted(tensors)[0]
    save_file({name: value for name, value in tensors.items() if name != gone}, file)
    with pytest.raises(ModelError, match=f"lack 1 tensors?, as {gone}"):
        sl.load(tmp_path / "short")


def test_learned_positions_before_the_prompt_are_refused() -> None:
    from peft import PromptTuningConfig, get_peft_model

    model: Any = BY_NAME["llama"].build()
    tuned = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ModelError, match="before the prompt"):
        sl.wrap(tuned)


@pytest.fixture(scope="module")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> sl.VLM:
    return sl.load(save_llava(tmp_path_factory.mktemp("chat") / "llava"))


def test_a_conversation_is_put_into_the_chat_template(chatting: sl.VLM, tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "A?"}]},
        {"role": "assistant", "content": "B."},
        {"role": "user", "content": "C?"},
    ]
    read = chatting.tokenizer.decode(chatting.encode(turns)["input_ids"][0])
    assert read.replace("<image>" * 9, "<image>").endswith(
        "system: Be brief.user: <image>A?assistant: B.user: C?assistant: "
    )
    text_only = sl.load(save_llama(tmp_path / "llama"))
    bare = [turns[0], {"role": "user", "content": "A?"}]
    assert "system: Be brief.user: A?" in text_only.tokenizer.decode(text_only.encode(bare)["input_ids"][0])


def test_a_template_that_refuses_is_one_sentence(chatting: sl.VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    for template, reason in (
        ("{{ raise_exception('System role not supported') }}", "refuses the turns system, user: System role not"),
        ("{{ messages[9]['role'].upper() }}", "refuses the turns system, user"),
        ("{% for %}", "refuses the turns"),
    ):
        monkeypatch.setattr(chatting.processor, "chat_template", template)
        with pytest.raises(InputError, match=reason):
            chatting.encode(
                [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}], allow_text_only=True
            )


def test_a_conversation_needs_a_chat_template(tmp_path: Path) -> None:
    vlm = sl.load(save_llava(tmp_path / "bare", chat=False))
    one = [{"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "A?"}]}]
    assert torch.equal(vlm.encode(one)["input_ids"], vlm.encode(sl.Sample("A?", image=PICTURE))["input_ids"])
    with pytest.raises(InputError, match="without a chat template and takes one prompt"):
        vlm.encode([{"role": "system", "content": "x"}, *one])
