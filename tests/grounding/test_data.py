"""Training data: what is read, what is passed over and why, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.data.shapes_training import shapes_training
from sightline.data.training_files import read_training, write_training
from sightline.data.training_sample import TrainingSample
from sightline.errors import InputError
from sightline.training.settings import TrainSettings, preset_names, read_settings


@pytest.fixture
def picture(tmp_path: Path) -> str:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "dog.png")
    return "dog.png"


def lines(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in records), encoding="utf-8")
    return path


def test_json_lines(tmp_path: Path, picture: str) -> None:
    record = {"id": "x", "image": picture, "prompt": "What?", "answer": "a dog 🐕", "words": [[2, 5, 1]]}
    path = lines(tmp_path / "d.jsonl", record, {"images": [picture], "caption": "a cat", "negative": "a cow"})
    first, second = read_training(path).samples
    assert first == TrainingSample("x", (tmp_path / picture,), "What?", "a dog 🐕", ((2, 5, 1),))
    assert (second.id, second.prompt, second.negative) == ("2", "Describe the image.", "a cow")
    assert second.labelled == ((2, 5, 1),)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": None}, "there is no image"),
        ({"image": "gone.png"}, "gone.png does not exist"),
        ({"image": "nul\0.png"}, "its image"),
        ({"image": "empty.png"}, "is empty"),
        ({"image": "."}, "is a folder"),
        ({"image": ["dog.png", 3]}, "there is no image"),
        ({"answer": "  \n"}, "the answer is missing, empty"),
        ({"answer": 4}, "the answer is missing, empty or no text"),
        ({"prompt": ""}, '"prompt" is empty'),
        ({"prompt": "<image><image> two?"}, "marks places for 2 images"),
        ({"words": [[0, 99, 1]]}, "characters 0 to 99"),
        ({"words": "dog"}, "the words are no list"),
        ({"negative_words": [[0, 1, 0]]}, 'no "negative"'),
        ({"negative": "a cat", "negative_words": [[0, 1, 5]]}, "in the negative, word 1 has the label 5"),
        ({"id": "good"}, "already that of line 1"),
    ],
)
def test_a_bad_line_is_listed_and_passed_over(tmp_path: Path, picture: str, change: Any, said: str) -> None:
    (tmp_path / "empty.png").touch()
    good = {"id": "good", "image": picture, "answer": "a dog"}
    path = lines(tmp_path / "d.jsonl", good, {**good, "id": "bad", **change}, {**good, "id": "last"})
    found = read_training(path)
    assert [sample.id for sample in found.samples] == ["good", "last"]
    (bad,) = found.bad
    assert bad.where == f"{path}, line 2"
    assert said in bad.error


def test_torn_lines_and_none_that_can_be_used(tmp_path: Path, picture: str) -> None:
    path = lines(tmp_path / "d.jsonl", '{"image": "dog.png", "answ', "[1]", "", "\0")
    with pytest.raises(
        InputError, match=r"Not one sample of .* can be trained on; the first, .*line 1: not valid JSON"
    ):
        read_training(path)
    for name, content in (("bytes.jsonl", b"\xff\xfe\x00"), ("none.jsonl", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            read_training(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_training(tmp_path / "gone.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        read_training(tmp_path)


def test_a_label_file_has_a_line_for_each_sample(tmp_path: Path, picture: str) -> None:
    record = {"image": picture, "answer": "a dog"}
    path = lines(tmp_path / "d.jsonl", record, record)
    labels = lines(tmp_path / "l.jsonl", {"words": [[2, 5, 0]]}, {"words": []})
    first, second = read_training(path, labels=labels).samples
    assert (first.words, second.words) == (((2, 5, 0),), ())
    with pytest.raises(InputError, match="has 1 lines and the data 2 samples"):
        read_training(path, labels=lines(tmp_path / "s.jsonl", {"words": []}))
    with pytest.raises(InputError, match="line 2: word 1 spans characters 2 to 9"):
        read_training(path, labels=lines(tmp_path / "w.jsonl", {"words": []}, {"words": [[2, 9, 1]]}))


def coco(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2014").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val2014" / "a.png")
    document = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "gone.png"}],
        "annotations": [
            {"id": 10, "image_id": 1, "caption": "A dog on a couch. "},
            {"id": 11, "image_id": 2, "caption": "A cat."},
            {"id": 12, "image_id": 1, "caption": "  "},
            {"id": 13, "image_id": 7, "caption": "A cow."},
            {"id": 14, "image_id": 1, "caption": "Two cats."},
            "not an annotation",
        ],
    }
    path = tmp_path / "annotations" / "captions_val2014.json"
    path.write_text(json.dumps(document))
    return path


def test_coco_captions(tmp_path: Path) -> None:
    path = coco(tmp_path)
    found = read_training(path)
    assert [(sample.id, sample.answer) for sample in found.samples] == [
        ("1-10", "A dog on a couch."),
        ("1-14", "Two cats."),
    ]
    told = [bad.error for bad in found.bad]
    assert "gone.png does not exist" in told[0]
    assert "caption is missing, empty" in told[1]
    assert "its image 7 is not among" in told[2]
    limited = read_training(path, limit=1)
    assert len(limited.samples) == 1
    assert next(iter(limited.captions.values())) == ("A dog on a couch. ", "  ", "Two cats.")
    with pytest.raises(InputError, match="does not exist"):
        read_training(path, images=tmp_path / "nowhere")
    (tmp_path / "annotations" / "x.json").write_text("[]")
    with pytest.raises(InputError, match="no COCO file"):
        read_training(tmp_path / "annotations" / "x.json")


def test_the_bundled_world_is_the_same_for_a_seed_and_no_scene_of_a_benchmark() -> None:
    from sightline.zoo.official.files import fresh_scenes

    one, again, other = (list(shapes_training(12, seed)) for seed in (0, 0, 1))
    assert one == again
    assert one != other
    numbers = {sample.images[0].scene for sample in one}
    for stream in ("pope", "chair", "mme", "blink", "mmmu-pro"):
        drawn = (scene.seed for _, scene in zip(range(500), fresh_scenes(stream, 0), strict=False))
        assert not numbers & set(drawn)
    assert one[0].images[0].read() == again[0].images[0].read()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    many = list(shapes_training(4))
    write_training(tmp_path / "d.jsonl", many)
    found = read_training(tmp_path / "d.jsonl").samples
    for sample, read in zip(many, found, strict=True):
        assert (read.prompt, read.answer, read.words, read.negative, read.negative_words) == (
            sample.prompt,
            sample.answer,
            sample.words,
            sample.negative,
            sample.negative_words,
        )
        assert read.images[0].read_bytes() == sample.images[0].read()


def test_the_seed_preset_is_that_of_the_public_attempt() -> None:
    found = read_settings(preset="seed")
    assert (found.layers, found.weight, found.contrast_weight, found.margin) == ("last4", 0.5, 0.1, 0.5)
    assert (found.learning_rate, found.weight_decay, found.epochs, found.batch_size) == (2e-5, 0.01, 3.0, 4)
    assert not found.vision_tower
    assert preset_names() == ["labels", "seed", "shapes"]
    labels = read_settings()
    assert (labels.loss, labels.negatives, labels.weight, labels.margin) == ("bce", "labels", 1.0, 0.3)
    same = {"loss": "margin", "negatives": "contrast", "weight": 0.5, "margin": 0.5}
    assert labels.with_values(same) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lerning_rate: 1", "no field 'lerning_rate' in .*: did you mean learning_rate"),
        ("steps: many", "steps is 'many'"),
        ("steps: -1", "steps is -1 .*: give at least 0"),
        ("loss: hinge", "margin or bce or mse or none is expected"),
        ("bf16: 1", "true or false is expected"),
        ("layers: first", "layers is 'first'"),
        ("preset: gone", "no preset 'gone'"),
        ("- a", "no YAML of"),
        ("a: [", "no valid YAML at line 1"),
        ("epochs: .nan", "epochs is nan"),
        ("steps: 0\nepochs: 0", "neither steps nor epochs"),
        ("eval_benches: [1]", "a list of names is expected"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_settings(path)


def test_a_file_of_settings_stands_over_its_preset(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("preset: shapes\nlearning_rate: 3e-4\nlayers: 5\neval_benches: shapes-pope\n")
    found = read_settings(path)
    assert (found.learning_rate, found.layers, found.eval_benches) == (3e-4, "5", ("shapes-pope",))
    assert found.batch_size == read_settings(preset="shapes").batch_size
    (tmp_path / "empty.yaml").touch()
    assert read_settings(tmp_path / "empty.yaml") == read_settings()


def test_every_setting_is_in_the_docs() -> None:
    import dataclasses

    page = (Path(__file__).parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(TrainSettings):
        assert f"| `{field.name}` |" in page, field.name
        assert field.metadata["help"] in page, field.name
