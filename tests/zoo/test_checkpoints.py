"""The bundled checkpoints: ordinary Transformers folders, small, and as good as their card says."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

import sightline as sl
from sightline.zoo import BUNDLED, bundled_path
from sightline.zoo import questions as ask
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import COLOURS, KINDS, POSITIONS, Scene, draw_scenes

FRESH = list(draw_scenes(100, seed=23))
BROKEN = "tiny-sinks"


@pytest.fixture(scope="module", params=list(BUNDLED))
def folder(request: pytest.FixtureRequest) -> Path:
    return bundled_path(request.param)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    vlm = sl.load(folder)
    return vlm.model, vlm.processor


@pytest.fixture
def llava(loaded: tuple[Any, Any]) -> tuple[Any, Any]:
    if not isinstance(loaded[0], LlavaForConditionalGeneration):
        pytest.skip("a model of another family has tests of its own")
    return loaded


@pytest.fixture(scope="module")
def good() -> tuple[Any, Any]:
    path = bundled_path("tiny-llava")
    return AutoModelForImageTextToText.from_pretrained(path).eval(), AutoProcessor.from_pretrained(path)


def chat(processor: Any, prompt: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    return str(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))


def answers(model: Any, processor: Any, pairs: list[tuple[Scene, Question]]) -> list[str]:
    texts = [chat(processor, question.prompt) for _, question in pairs]
    images = [render(scene) for scene, _ in pairs]
    inputs = processor(images=images, text=texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=48, do_sample=False)
    said = processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in said]


def right(model: Any, processor: Any, pairs: list[tuple[Scene, Question]]) -> float:
    said = answers(model, processor, pairs)
    return sum(answer == question.answer for answer, (_, question) in zip(said, pairs, strict=True)) / len(pairs)


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="huge-llava"):
        bundled_path("huge-llava")


def test_the_folder_is_small_and_complete(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "README.md"} <= names
    assert {"generation_config.json", "chat_template.jinja", "figures.json"} <= names
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000


def test_the_card_says_the_measured_figures(folder: Path) -> None:
    figures = json.loads((folder / "figures.json").read_text())
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    for split in figures["yes_no"].values():
        assert f"| {split['accuracy']:.3f} |" in card
    assert f"| {figures['caption']['object_f1']:.3f} |" in card


def test_it_is_a_llava_of_the_promised_size(llava: tuple[Any, Any]) -> None:
    model, processor = llava
    assert type(model) is LlavaForConditionalGeneration
    assert model.config.text_config.num_hidden_layers >= 8
    assert model.dtype == torch.float32
    inputs = processor(images=Image.new("RGB", (640, 427)), text=chat(processor, "Do you see it?"), return_tensors="pt")
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) >= 36
    assert inputs["input_ids"][0, 0] == processor.tokenizer.bos_token_id
    assert (inputs["input_ids"] == processor.tokenizer.bos_token_id).sum() == 1


def test_the_chat_template_takes_pictures_and_conversations(llava: tuple[Any, Any]) -> None:
    _, processor = llava
    talk = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Do you see a star?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
        {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
    ]
    text = processor.apply_chat_template(talk, add_generation_prompt=True)
    assert text == "USER: <image>\nDo you see a star? ASSISTANT: yes</s>USER: Where? ASSISTANT:"
    talk[0]["content"][0]["image"] = render(FRESH[0])  # type: ignore[index]
    inputs = processor.apply_chat_template(
        talk, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    whole = processor(images=render(FRESH[0]), text=text, return_tensors="pt")
    assert torch.equal(inputs["input_ids"], whole["input_ids"])
    assert torch.equal(inputs["pixel_values"], whole["pixel_values"])


def test_the_tokenizer_forgives(loaded: tuple[Any, Any]) -> None:
    tokenizer = loaded[1].tokenizer
    assert tokenizer.encode("Is there a red circle in the image?") == tokenizer.encode(
        "is there a red circle in the image ?"
    )
    assert tokenizer.unk_token_id in tokenizer.encode("Is there a zebra?")
    assert tokenizer.decode(tokenizer.encode("A red circle, and (B).", add_special_tokens=False)) == (
        "a red circle, and (B)."
    )


def test_every_word_of_the_world_is_known(loaded: tuple[Any, Any]) -> None:
    tokenizer = loaded[1].tokenizer
    for index, scene in enumerate(FRESH[:50]):
        rng = random.Random(index)
        asked = [
            ask.caption(scene),
            ask.choice(scene, 10, rng),
            ask.count(scene, shape=rng.choice(KINDS).shape),
            ask.position(scene, rng.randrange(len(POSITIONS))),
            ask.attribute(scene, rng.choice(COLOURS)),
            *(ask.existence(scene, rng.choice(KINDS), phrase) for phrase in ask.EXISTENCE_PHRASES),
            *(ask.colour_choice(scene, shape, rng) for shape in ask.single_shapes(scene)),
        ]
        for question in asked:
            assert tokenizer.unk_token_id not in tokenizer.encode(f"{question.prompt} {question.answer}")
            tokens = tokenizer.encode(question.answer, add_special_tokens=False)
            assert tokenizer.decode(tokens) == question.answer


def test_a_batch_answers_as_each_alone(loaded: tuple[Any, Any], folder: Path) -> None:
    model, processor = loaded
    pairs = [(scene, ask.caption(scene)) for scene in FRESH[:6]]
    pairs[1] = (FRESH[1], ask.existence(FRESH[1], KINDS[0]))
    pairs[4] = (FRESH[4], ask.choice(FRESH[4], 5, random.Random(0)))
    together = answers(model, processor, pairs)
    assert together == [answers(model, processor, [pair])[0] for pair in pairs]
    assert together[1] in ("yes", "no") or folder.name == BROKEN
    assert all("<" not in text for text in together)


def test_generation_ends_by_itself(loaded: tuple[Any, Any], folder: Path) -> None:
    model, processor = loaded
    if folder.name == BROKEN:
        pytest.skip("its sinks make it say words that are no answer, on purpose")
    text = chat(processor, "Is there a red circle in the image?")
    inputs = processor(images=render(FRESH[0]), text=text, return_tensors="pt")
    tokens = model.generate(**inputs)
    assert tokens.shape[1] == inputs["input_ids"].shape[1] + 2
    assert tokens[0, -1] == processor.tokenizer.eos_token_id


def test_a_photograph_and_strange_words_are_answered(good: tuple[Any, Any]) -> None:
    model, processor = good
    noise = Image.effect_noise((320, 200), 80).convert("RGB")
    inputs = processor(images=noise, text=chat(processor, "Ist hier ein Zebra?"), return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=8).shape[1] > inputs["input_ids"].shape[1]


def test_the_good_model_sees(good: tuple[Any, Any]) -> None:
    existence = [
        (scene, question)
        for index, scene in enumerate(FRESH)
        for question in ask.pope(scene, "random", random.Random(index))
    ]
    assert right(*good, existence) >= 0.95
    choices = [(scene, ask.choice(scene, 2 + i % 9, random.Random(i))) for i, scene in enumerate(FRESH)]
    assert right(*good, choices) >= 0.90


def test_the_good_model_describes_what_is_there(good: tuple[Any, Any]) -> None:
    assert object_f1(good) >= 0.95


def test_the_early_model_hallucinates_more() -> None:
    path = bundled_path("tiny-llava-early")
    early = AutoModelForImageTextToText.from_pretrained(path).eval(), AutoProcessor.from_pretrained(path)
    assert object_f1(early) <= 0.92


def object_f1(pair: tuple[Any, Any]) -> float:
    said = answers(*pair, [(scene, ask.caption(scene)) for scene in FRESH])
    named = [set(ask.mentioned(text)) for text in said]
    both = sum(len(names & set(scene.kinds)) for names, scene in zip(named, FRESH, strict=True))
    return 2 * both / (sum(map(len, named)) + sum(len(scene.kinds) for scene in FRESH))
