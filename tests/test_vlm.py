"""Loading folders as users have them, encoding, generating, and what is said when something is wrong."""

from __future__ import annotations

import importlib.util
import json
import wave
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from model_folders import SAVERS, load_or_skip, save_qwen2_audio
from sightline.data.sample import Sample
from sightline.errors import InputError, ModelError
from sightline.models.layout.patches import Modality
from sightline.models.source import find_source
from sightline.models.vlm import VLM, load

PICTURE = Image.radial_gradient("L").convert("RGB")
WIDE = PICTURE.resize((64, 32))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: SAVERS[name](root / name) for name in SAVERS}


class Models(dict[str, VLM]):
    """Loaded models by name, each loaded when it is first asked for."""

    def __init__(self, folders: dict[str, Path]) -> None:
        super().__init__()
        self.folders = folders

    def __missing__(self, name: str) -> VLM:
        self[name] = load_or_skip(self.folders[name])
        return self[name]


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> Models:
    return Models(folders)


def ask(vlm: VLM, *pictures: Image.Image) -> Sample:
    return Sample(prompt="What is it?", images=pictures if vlm.anatomy.is_multimodal else ())


@pytest.mark.parametrize("name", SAVERS)
def test_a_folder_is_loaded_encoded_and_answers(models: Models, name: str) -> None:
    vlm = models[name]
    inputs = vlm.encode(ask(vlm, PICTURE))
    layout = vlm.layout(inputs)
    assert vlm.check(inputs) == []
    assert ("image" in layout.counts()) == vlm.anatomy.is_multimodal
    tokens = vlm.generate_tokens(inputs, max_new_tokens=4)
    assert len(tokens) == 1
    assert 1 <= len(tokens[0]) <= 4
    assert vlm.generate(inputs, max_new_tokens=4) == vlm.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()
    assert "decoder" in str(vlm)


@pytest.mark.parametrize("name", SAVERS)
def test_a_batch_is_padded_on_the_left_and_answers_like_its_samples(models: Models, name: str) -> None:
    vlm = models[name]
    samples = [ask(vlm, PICTURE), Sample(prompt="Why is that so?", images=ask(vlm, WIDE, PICTURE).images)]
    inputs = vlm.encode(samples)
    layout = vlm.layout(inputs)
    present = layout.modality != Modality.PADDING
    assert (present[:, 1:] >= present[:, :-1]).all()
    batched = vlm.generate(inputs, max_new_tokens=4)
    assert batched == [vlm.generate(vlm.encode(sample), max_new_tokens=4) for sample in samples]
    if vlm.anatomy.is_multimodal:
        assert {grid.index for grid in layout.grids[0]} == {0}
        assert {grid.index for grid in layout.grids[1]} == {0, 1}


WITH_IMAGES = [name for name in SAVERS if not name.startswith("llama")]
IMAGES_FIRST = (
    "{% for message in messages %}user: {% for part in message['content'] if part['type'] == 'image' %}<image>\n"
    "{% endfor %}{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }} {% endfor %}"
    "{% endfor %}"
)
"""As the hub's LLaVA-1.5 has it: all images, then all words."""


def words_and_images(vlm: VLM, sample: Sample) -> str:
    """What the encoded sample has, in order: each image's number, and the letters A to F of its prompt."""
    inputs = vlm.encode(sample)
    grids = vlm.layout(inputs).grids[0]
    images = {place: grid.index for grid in grids for place in grid.positions.flatten().tolist()}
    found = ""
    for position, token in enumerate(inputs["input_ids"][0].tolist()):
        symbol = str(images[position]) if position in images else vlm.tokenizer.decode([token])
        if symbol in set("ABCDEF0123") and not found.endswith(symbol):
            found += symbol
    return found


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_images_stand_where_the_prompt_marks_them(models: Models, name: str) -> None:
    vlm = models[name]
    sample = Sample("AB<image>CD<image>EF", images=(PICTURE, WIDE))
    assert words_and_images(vlm, sample) == "AB0CD1EF"
    assert vlm.check(vlm.encode(sample)) == []
    if not name.endswith("without_template") and name != "paligemma":
        plain, marked = vlm.encode(ask(vlm, PICTURE)), vlm.encode(Sample("<image>What is it?", image=PICTURE))
        assert torch.equal(plain["input_ids"], marked["input_ids"])


@pytest.mark.parametrize("name", ["llava", "llava_next", "llava_onevision"])
def test_images_stand_there_though_the_template_puts_them_first(
    models: Models, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = models[name]
    monkeypatch.setattr(vlm.processor, "chat_template", IMAGES_FIRST)
    sample = Sample("AB<image>CD<image>EF", images=(PICTURE, WIDE))
    assert words_and_images(vlm, sample) == "AB0CD1EF"
    unmarked = Sample("AB", images=(PICTURE, WIDE))
    assert words_and_images(vlm, unmarked) == "01AB"
    batch = vlm.encode([sample, unmarked])
    alone = vlm.encode(unmarked)["input_ids"][0]
    assert torch.equal(batch["input_ids"][1, -len(alone) :], alone)


@pytest.mark.parametrize(("prompt", "images"), [("a<image>", 0), ("a<image>", 2), ("<image><image>b", 1)])
def test_markers_without_their_images_are_refused(models: Models, prompt: str, images: int) -> None:
    with pytest.raises(InputError, match="as many markers as images, or none"):
        models["llava"].encode(Sample(prompt, images=(PICTURE,) * images), allow_text_only=True)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision"])
def test_video(models: Models, name: str) -> None:
    vlm = models[name]
    sample = Sample(prompt="What happens?", video=(PICTURE,) * 4)
    if importlib.util.find_spec("torchvision") is None:
        with pytest.raises(InputError, match="Video needs torchvision"):
            vlm.encode(sample)
        return
    inputs = vlm.encode(sample)
    layout = vlm.layout(inputs)
    assert set(layout.counts()) == {"text", "video"}
    assert [grid.frame for grid in layout.grids[0]] == list(range(len(layout.grids[0])))
    assert len(layout.grids[0]) in (2, 4)
    assert vlm.check(inputs) == []


@pytest.mark.parametrize(("rate", "channels", "width"), [(16000, 1, 2), (8000, 2, 1), (44100, 1, 4)])
def test_sound(tmp_path: Path, rate: int, channels: int, width: int) -> None:
    vlm = load_or_skip(save_qwen2_audio(tmp_path / "model"))
    file = tmp_path / "tone.wav"
    with wave.open(str(file), "wb") as sound:
        sound.setparams((channels, width, rate, 0, "NONE", ""))
        sound.writeframes(bytes(range(200)) * (rate // 2 * channels * width // 200))
    inputs = vlm.encode(Sample(prompt="What is heard?", audio=file))
    assert vlm.layout(inputs).counts()["audio"] == 5  # half a second
    assert vlm.check(inputs) == []
    with pytest.raises(InputError, match="without sound"):
        vlm.encode(Sample(prompt="What is heard?"))


def test_sound_that_cannot_be_read(tmp_path: Path) -> None:
    vlm = load_or_skip(save_qwen2_audio(tmp_path / "model"))
    (tmp_path / "noise.wav").write_bytes(b"noise")
    for name, said in (("none.wav", "does not exist"), ("noise.wav", "no uncompressed WAV")):
        with pytest.raises(InputError, match=said):
            vlm.encode(Sample(prompt="What?", audio=tmp_path / name))


def test_what_the_user_must_give(models: Models) -> None:
    llava, llama = models["llava"], models["llama"]
    with pytest.raises(InputError, match="without an image"):
        llava.encode(Sample(prompt="What is it?"))
    assert "image" not in llava.layout(llava.encode(Sample(prompt="What is it?"), allow_text_only=True)).counts()
    with pytest.raises(InputError, match="text alone"):
        llama.encode(Sample(prompt="What is it?", image=PICTURE))
    with pytest.raises(InputError, match="with and without images"):
        llava.encode([ask(llava, PICTURE), Sample(prompt="What?")], allow_text_only=True)
    with pytest.raises(InputError, match="no samples"):
        llava.encode([])
    with pytest.raises(InputError, match="max_new_tokens"):
        llava.generate(llava.encode(ask(llava, PICTURE)), max_new_tokens=0)


def test_one_pixel(models: Models) -> None:
    for name in ("llava", "qwen2_5_vl"):
        vlm = models[name]
        assert vlm.layout(vlm.encode(ask(vlm, Image.new("RGB", (1, 1))))).counts()["image"] > 0


def test_several_answers_of_one_prompt(models: Models) -> None:
    vlm = models["llava"]
    inputs = vlm.encode(ask(vlm, PICTURE))
    torch.manual_seed(0)
    assert len(vlm.generate_tokens(inputs, 3, do_sample=True, num_return_sequences=2)) == 2


def edited(folder: Path, target: Path, name: str, text: str | bytes | None) -> Path:
    """A copy of a model folder, with one file replaced, or files left out (None)."""
    target.mkdir()
    for file in folder.iterdir():
        if file.name not in name.split():
            (target / file.name).write_bytes(file.read_bytes())
    if text is not None:
        (target / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return target


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("config.json", None, "holds no config.json"),
        ("config.json", "{", "not valid JSON"),
        ("config.json", "{}", "no model_type"),
        ("config.json", '{"model_type": "made_up"}', "of kind made_up"),
        ("config.json", '{"model_type": "x", "auto_map": {"AutoConfig": "x.X"}}', "its own model code"),
        ("model.safetensors", None, "no weights"),
        ("model.safetensors", b"\x10\x00", "damaged"),
        ("tokenizer.json", None, "has no usable processor"),
        ("preprocessor_config.json", None, "has no usable processor"),
        ("processor_config.json preprocessor_config.json", None, "has no processor beside"),
    ],
)
def test_a_spoiled_folder(
    folders: dict[str, Path], tmp_path: Path, file: str, text: str | bytes | None, said: str
) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load(edited(folders["llava"], tmp_path / "spoiled", file, text))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_cut_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    whole = (folders["llava"] / "model.safetensors").read_bytes()
    with pytest.raises(ModelError, match="damaged"):
        load(edited(folders["llava"], tmp_path / "cut", "model.safetensors", whole[: len(whole) // 2]))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./no-such-folder", "does not exist"),
        ("/no/such/folder", "does not exist"),
        ("a/b/c", "does not exist"),
        ("not a name", "names no model"),
        ("nobody/no-such-model", "hub cannot be reached"),
    ],
)
def test_a_name_that_leads_nowhere(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load(name)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        load(tmp_path / "model.bin")


def test_bert_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM, BertLMHeadModel

    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=32)
    for number, kind in enumerate((BertForMaskedLM, BertLMHeadModel)):
        kind(config).save_pretrained(tmp_path / str(number))
        with pytest.raises(ModelError, match="does not generate text"):
            load(tmp_path / str(number))


def test_settings_that_are_wrong(folders: dict[str, Path]) -> None:
    settings: list[tuple[dict[str, Any], str]] = [
        ({"dtype": "float8"}, "no dtype"),
        ({"device": "toaster"}, "no device"),
        ({"quantize": "3bit"}, "4bit or 8bit"),
    ]
    if not torch.cuda.is_available():
        settings += [({"device": "cuda"}, "CUDA GPUs"), ({"quantize": "4bit"}, r"bitsandbytes|CUDA GPU")]
    for options, said in settings:
        with pytest.raises(InputError, match=said):
            load(folders["llava"], **options)
    vlm = load(folders["llava"], dtype="bfloat16", device="cpu")
    assert vlm.model.dtype == torch.bfloat16
    assert vlm.encode(ask(vlm, PICTURE))["pixel_values"].dtype == torch.bfloat16
    assert vlm.check() == []


def test_layout_by_hand(folders: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "layout.json"
    file.write_text(json.dumps({"text": [[0, 6], [15, None]], "image": [[6, 15]], "grid": [3, 3]}))
    vlm = load(folders["llava"], layout=file)
    inputs = vlm.encode(ask(vlm, PICTURE))
    read = load(folders["llava"]).layout(inputs)
    given = vlm.layout(inputs)
    assert torch.equal(given.modality, read.modality)
    assert torch.equal(given.grids[0][0].positions, read.grids[0][0].positions)
    assert torch.equal(given.bos, read.bos)


@pytest.mark.parametrize(
    ("name", "revision", "found"),
    [
        ("owner/model", None, ("owner/model", None)),
        ("owner/model", "v1", ("owner/model", "v1")),
        ("owner/model@main", None, ("owner/model", "main")),
        ("owner/model@refs/pr/3", None, ("owner/model", "refs/pr/3")),
        ("owner/model@v1", "v1", ("owner/model", "v1")),
    ],
)
def test_a_hub_name_may_carry_its_revision(name: str, revision: str | None, found: tuple[str, str | None]) -> None:
    source = find_source(name, revision)
    assert (source.path, source.revision) == found
    assert source.name == name


def test_two_revisions_are_refused() -> None:
    with pytest.raises(ModelError, match="one of them"):
        find_source("owner/model@v1", "v2")
