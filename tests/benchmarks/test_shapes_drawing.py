"""Drawn benchmarks: the same seed is the same files, what they say of the pictures is true, and nothing is lost."""

from __future__ import annotations

import ast
import errno
import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline.benchmarks.chair_words import read_synonyms, vocabulary_of
from sightline.errors import InputError, SightlineError
from sightline.zoo import bundled_path
from sightline.zoo.official import LAYOUTS, drawing
from sightline.zoo.official.blink import SUBTASKS
from sightline.zoo.official.drawing import draw, drawn
from sightline.zoo.official.files import BLOCK, FIRST, fresh_scenes, shares
from sightline.zoo.official.mmmu_pro import CONFIGS, FOUR, TEN, VISION
from sightline.zoo.questions import LETTERS
from sightline.zoo.samples import SAMPLE_SEED
from sightline.zoo.world import NEGATIVES, world_table

COUNTS = {
    "pope": 36, "chair": 8, "mme": 16, "blink": 15, "mmmu-pro": 8, "amber": 10, "hallusionbench": 10,
    "naturalbench": 8, "mmvp": 6,
}  # fmt: skip
SAME = ("synonyms.txt", "data/relation.json", "data/safe_words.txt")
"""What is of the world, and not of a drawing."""

SEED = 3


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("drawn")
    for name, count in COUNTS.items():
        draw(name, root / name, count, SEED)
    return {name: root / name for name in COUNTS}


def content(folder: Path) -> dict[str, Any]:
    """Every file below a folder: rows of a table, bytes of all else."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): rows(path) or path.read_bytes() for path in files}


def rows(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist() if path.suffix == ".parquet" else []


def questions(folders: dict[str, Path], split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folders["pope"] / f"shapes_pope_{split}.json").read_text().splitlines()]


@pytest.mark.parametrize("name", COUNTS)
def test_a_seed_is_its_files(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    draw(name, tmp_path / "again", COUNTS[name], SEED)
    draw(name, tmp_path / "other", COUNTS[name], SEED + 1)
    first, again, other = content(folders[name]), content(tmp_path / "again"), content(tmp_path / "other")
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[file] != other[file] for file in first if file not in SAME)


@pytest.mark.parametrize("name", COUNTS)
def test_a_larger_draw_begins_with_the_smaller(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    draw(name, tmp_path / "more", 2 * COUNTS[name], SEED)
    small, large = content(folders[name]), content(tmp_path / "more")
    assert small.keys() <= large.keys()
    for file, of in small.items():
        if file.endswith((".png", ".txt")):
            assert large[file] == of
        elif file.endswith(".parquet"):
            assert large[file][: len(of)] == of
        elif "pope" in file:
            assert large[file].startswith(of)


@given(st.integers(0, 1000), st.integers(1, 20))
def test_shares_are_even(total: int, parts: int) -> None:
    dealt = shares(total, parts)
    assert sum(dealt) == total
    assert len(dealt) == parts
    assert max(dealt) - min(dealt) <= 1
    assert dealt == sorted(dealt, reverse=True)


def test_scenes_are_of_a_stream_alone_and_never_of_training() -> None:
    streams = [list(islice(fresh_scenes(stream, seed), 50)) for stream, seed in (("a", 0), ("a", 1), ("b", 0))]
    numbers = [scene.seed for stream in streams for scene in stream]
    assert len(set(numbers)) == 150
    assert min(number for number in numbers if number is not None) >= FIRST
    assert (SAMPLE_SEED + 2**31) * BLOCK < FIRST  # the last of the command line's `shapes`; training's are far below


def test_pope_is_balanced_and_true(folders: dict[str, Path]) -> None:
    scenes = dict(enumerate(islice(fresh_scenes("pope", SEED, lambda scene: len(scene.kinds) >= 3), 2), start=1))
    asked: dict[str, list[tuple[str, str]]] = {}
    for split in NEGATIVES:
        lines = questions(folders, split)
        assert [line["question_id"] for line in lines] == list(range(1, 13))
        assert [line["label"] for line in lines] == ["yes", "no"] * 6
        for line in lines:
            number = int(line["image"].split("_")[-1].split(".")[0])
            (name,) = re.findall(r"^Is there a (\w+ \w+) in the image\?$", line["text"])
            assert (name in {kind.name for kind in scenes[number].kinds}) == (line["label"] == "yes")
            assert (folders["pope"] / "images" / line["image"]).is_file()
        asked[split] = [(line["image"], line["text"]) for line in lines if line["label"] == "yes"]
    assert asked["random"] == asked["popular"] == asked["adversarial"]


def test_pope_negatives_are_what_their_split_says(tmp_path: Path) -> None:
    draw("pope", tmp_path / "pope", 540, seed=8)
    table, seen, company = world_table(), {}, {}
    scenes = list(islice(fresh_scenes("pope", 8, lambda scene: len(scene.kinds) >= 3), 30))
    for split in NEGATIVES:
        denied = [line for line in questions({"pope": tmp_path / "pope"}, split) if line["label"] == "no"]
        assert len(denied) == 90
        kinds = {kind.name: kind for kind in table.seen}
        named = [kinds[" ".join(line["text"].split()[3:5])] for line in denied]
        places = [int(line["image"].split("_")[-1].split(".")[0]) - 1 for line in denied]
        seen[split] = np.mean([table.seen[kind] for kind in named])
        company[split] = np.mean([table.company(k, scenes[place]) for k, place in zip(named, places, strict=True)])
    assert seen["popular"] > 1.5 * seen["random"]
    assert company["adversarial"] > 1.5 * company["random"]
    assert company["adversarial"] > company["popular"]


def test_mme_has_a_yes_and_a_no_about_each_picture(folders: dict[str, Path]) -> None:
    for subtask in ("existence", "count", "position", "color"):
        texts = sorted((folders["mme"] / subtask).glob("*.txt"))
        assert len(texts) == 2
        for text in texts:
            first, second = (line.split("\t") for line in text.read_text().splitlines())
            assert (first[1], second[1]) == ("Yes", "No")
            assert first[0] != second[0]
            assert text.with_suffix(".png").is_file()


def test_chair_annotations_fit_the_pictures(folders: dict[str, Path]) -> None:
    folder = folders["chair"]
    instances = json.loads((folder / "annotations/instances_val2014.json").read_text())
    names = {category["id"]: category["name"] for category in instances["categories"]}
    files = {image["id"]: folder / "val2014" / image["file_name"] for image in instances["images"]}
    assert len(names) == 25
    assert len(files) == COUNTS["chair"]
    assert len({box["id"] for box in instances["annotations"]}) == len(instances["annotations"])
    for scene, number in zip(fresh_scenes("chair", SEED), files, strict=False):
        boxes = [box for box in instances["annotations"] if box["image_id"] == number]
        assert [names[box["category_id"]] for box in boxes] == [item.kind.name for item in scene.items]
        pixels = np.asarray(Image.open(files[number])).astype(int)
        painted = np.abs(pixels - scene.background).sum(axis=-1) > 0
        within = np.zeros_like(painted)
        for box in boxes:
            left, top, width, height = box["bbox"]
            within[int(top) : int(top + height) + 1, int(left) : int(left + width) + 1] = True
            assert 0 < box["area"] <= width * height + 0.02
            assert abs(painted[within].sum()) > 0
        assert not (painted & ~within).any()


def test_chair_captions_name_nothing_that_is_not_there(folders: dict[str, Path]) -> None:
    folder = folders["chair"]
    lines = read_synonyms(folder / "synonyms.txt")
    words = vocabulary_of(lines)
    assert len(lines) == 25
    assert all(len(name.split()) == 2 for line in lines for name in line)
    captions = json.loads((folder / "annotations/captions_val2014.json").read_text())["annotations"]
    for scene, number in zip(fresh_scenes("chair", SEED), range(1, COUNTS["chair"] + 1), strict=False):
        told = [caption["caption"] for caption in captions if caption["image_id"] == number]
        there = {kind.name for kind in scene.kinds}
        named = [{mention.name for mention in words.read(text).mentions} for text in told]
        assert len(told) == 5
        assert all(names and names <= there for names in named), (told, there)
        assert named[0] == named[3] == there


def test_blink_has_one_right_choice(folders: dict[str, Path]) -> None:
    for name in SUBTASKS:
        table = rows(folders["blink"] / name / "val-00000-of-00001.parquet")
        assert [row["idx"] for row in table] == [f"val_{name}_{number}" for number in (1, 2, 3)]
        for row in table:
            assert row["answer"] in LETTERS[: len(row["choices"])]
            assert all(
                f"{letter} {choice}\n" in row["prompt"] for letter, choice in zip(LETTERS, row["choices"], strict=False)
            )
            shown = [number for number in range(1, 5) if row[f"image_{number}"] is not None]
            assert shown == ([1, 2, 3] if name in ("Jigsaw", "Visual_Similarity") else [1])
            assert row[f"image_{shown[-1]}"]["bytes"].startswith(b"\x89PNG")


def test_the_missing_piece_is_the_one_that_was_cut_out(tmp_path: Path) -> None:
    """Its edge continues what is left of the picture, more so than the other's."""
    draw("blink", tmp_path, 100, seed=5, size=96)
    for row in rows(tmp_path / "Jigsaw" / "val-00000-of-00001.parquet"):
        torn, second, third = (pixels(row[f"image_{number}"]) for number in (1, 2, 3))
        gap = [
            np.abs(piece[:, 0] - torn[48:, 47]).sum() + np.abs(piece[0] - torn[47, 48:]).sum()
            for piece in (second, third)
        ]
        assert LETTERS[int(np.argmin(gap))] == row["answer"]


def pixels(cell: dict[str, Any]) -> Any:
    import io

    return np.asarray(Image.open(io.BytesIO(cell["bytes"]))).astype(int)


def test_mmmu_pro_asks_the_same_in_three_configurations(folders: dict[str, Path]) -> None:
    tables = {config: rows(folders["mmmu-pro"] / config / "test-00000-of-00001.parquet") for config in CONFIGS}
    for ten, four, vision in zip(*(tables[config] for config in (TEN, FOUR, VISION)), strict=True):
        assert ten["id"] == four["id"] == vision["id"]
        right = []
        for row, most in ((ten, 10), (four, 4), (vision, 10)):
            options = ast.literal_eval(row["options"])
            assert len(set(options)) == len(options) == min(most, 5 if row["subject"] == "Colours" else most)
            right.append(options["ABCDEFGHIJ".index(row["answer"])])
        assert len(set(right)) == 1
        assert set(ast.literal_eval(four["options"])) <= set(ast.literal_eval(ten["options"]))
        assert ten["question"] == f"<image 1> {vision['question']}"
        assert ten["image_1"] == vision["image"]
        assert ten["image_2"] is None


def test_the_bundled_tokenizer_knows_every_word(folders: dict[str, Path]) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundled_path("tiny-llava") / "tokenizer.json"))
    nothing = tokenizer.token_to_id("<unk>")
    assert nothing in tokenizer.encode("giraffe").ids
    asked = [line["text"] for split in NEGATIVES for line in questions(folders, split)]
    asked += [text.read_text().replace("\t", " ") for text in folders["mme"].glob("*/*.txt")]
    asked += [
        row["prompt"] for name in SUBTASKS for row in rows(folders["blink"] / name / "val-00000-of-00001.parquet")
    ]
    for row in rows(folders["mmmu-pro"] / VISION / "test-00000-of-00001.parquet"):
        asked += [row["question"], *ast.literal_eval(row["options"])]
    unknown = [text for text in asked if nothing in tokenizer.encode(text).ids]
    assert unknown == []


# Folders --------------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_must_exist_and_be_possible(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no benchmark named 'poppe' to draw; give one of pope, chair"):
        draw("poppe", tmp_path / "new")
    for count in (0, -1, drawing.MOST + 1, 10**30):
        with pytest.raises(InputError, match=r"cannot be drawn: give 1 to 100,000"):
            draw("pope", tmp_path / "new", count)
    for size in (0, 7, 2049):
        with pytest.raises(InputError, match=r"give 8 to 2,048"):
            draw("pope", tmp_path / "new", 2, size=size)
    assert not (tmp_path / "new").exists()


def test_only_a_drawn_folder_is_replaced_and_only_by_force(tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    folder.mkdir()
    draw("mme", folder, 24)
    before = content(folder)
    with pytest.raises(InputError, match="--force"):
        draw("mme", folder, 8)
    assert content(folder) == before
    draw("mme", folder, 8, is_forced=True)
    assert len(list(folder.glob("*/*.txt"))) == 4
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my thesis")
    with pytest.raises(InputError, match="never replaced"):
        draw("mme", tmp_path / "mine", 8, is_forced=True)
    assert (tmp_path / "mine" / "README.md").read_text() == "my thesis"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        draw("pope", tmp_path / "file", 2)
    with pytest.raises(InputError, match="cannot be written"):
        draw("pope", tmp_path / "file" / "below", 2)
    with pytest.raises(InputError, match="cannot be read"):
        draw("pope", tmp_path / ("long" * 100), 2)


def test_a_failed_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("stopped")

    monkeypatch.setitem(LAYOUTS, "pope", replace(LAYOUTS["pope"], write=fail))
    with pytest.raises(RuntimeError):
        draw("pope", tmp_path / "new", 2)
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    (tmp_path / "killed" / f"{drawing.PART}1").mkdir(parents=True)  # of a process that had no time to clear up
    draw("pope", tmp_path / "killed", 2)
    assert not list((tmp_path / "killed").glob(f"{drawing.PART}*"))


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(folder: Path, *_: Any) -> None:
        (folder / "half").write_text("half a benchmark")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(LAYOUTS, "pope", replace(LAYOUTS["pope"], write=fill))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(drawing.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    with pytest.raises(SightlineError, match="the disk is full"):
        draw("pope", tmp_path / "new", 2)
    with pytest.raises(SightlineError, match="the disk is full"):
        drawn("pope", 2)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_cache_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = drawn("mme", 8, seed=2)
    assert folder.is_relative_to(tmp_path / "cache" / "sightline")
    monkeypatch.setattr(drawing, "_draw", lambda *_: pytest.fail("drawn twice"))
    assert drawn("mme", 8, seed=2) == folder
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert drawn("mme", 8, seed=4) != folder
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(drawing.PART)] == []


def test_without_a_cache_the_temporary_folder_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(drawing.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    assert drawn("mme", 8).is_relative_to(tmp_path / "tmp")
    monkeypatch.setattr(drawing.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        drawn("mme", 8)
