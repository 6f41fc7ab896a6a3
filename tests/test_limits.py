"""What a prompt may hold, whoever encodes it: its length, a video, and the company of other prompts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

import sightline as sl
from model_folders import SAVERS, load_or_skip, save_llava
from sightline.errors import InputError
from sightline.knockout.words import pieces_of

PICTURE = Image.radial_gradient("L").convert("RGB")


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> sl.VLM:
    return sl.load(save_llava(tmp_path_factory.mktemp("models") / "llava"))


@pytest.mark.parametrize("name", ["llava", "paligemma", "gemma3", "llama"])
def test_a_video_is_refused_by_a_model_without_video(name: str, tmp_path: Path) -> None:
    vlm = load_or_skip(SAVERS[name](tmp_path / name))
    with pytest.raises(InputError, match=r"takes no video|text alone"):
        vlm.encode(sl.Sample("What happens?", video=(PICTURE,) * 4))


def test_a_prompt_longer_than_the_model_is_refused_and_the_longest_is_not(llava: sl.VLM) -> None:
    config = llava.anatomy.text_config
    sample = sl.Sample("Is it red?", image=PICTURE, id="a")
    length = llava.encode(sample)["input_ids"].shape[1]
    before = config.max_position_embeddings
    try:
        config.max_position_embeddings = length
        assert llava.encode(sample)["input_ids"].shape[1] == length
        config.max_position_embeddings = length - 1
        with pytest.raises(InputError, match=rf"of sample 'a' takes {length} positions, and {length - 1} is the most"):
            llava.encode(sample)
        with pytest.raises(InputError, match=rf"sample 'a' takes {length} positions"):
            llava.generate([sl.Sample("?", image=PICTURE), sample])
        config.max_position_embeddings = 20
        with pytest.raises(InputError, match="words of more than 20 tokens"):
            llava.encode(sl.Sample("word " * 10**6, image=PICTURE))
    finally:
        config.max_position_embeddings = before


@pytest.mark.parametrize("name", ["paligemma", "llava_without_template"])
def test_a_prompt_reads_the_same_alone_and_beside_one_that_marks_its_image(name: str, tmp_path: Path) -> None:
    vlm = load_or_skip(SAVERS[name](tmp_path / name))
    plain, marked = sl.Sample("What is it?", image=PICTURE), sl.Sample("<image>What is it?", image=PICTURE)
    batch = vlm.encode([marked, plain])
    for row, sample in enumerate((marked, plain)):
        alone = vlm.encode(sample)["input_ids"][0]
        assert torch.equal(batch["input_ids"][row, -len(alone) :], alone), sample.prompt


def test_a_vocabulary_is_copied_once_a_tokenizer(llava: sl.VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    own = type(llava.tokenizer).get_vocab

    def counted(self: Any) -> Any:
        copies.append(self)
        return own(self)

    monkeypatch.setattr(type(llava.tokenizer), "get_vocab", counted)
    first = pieces_of([70, 71, 72], llava.tokenizer)
    assert all(pieces_of([70, 71, 72], llava.tokenizer) == first for _ in range(3))
    assert len(copies) <= 1
    bare = SimpleNamespace(get_vocab=dict, convert_ids_to_tokens=str, decode=lambda ids, **_: str(ids[0]))
    assert len(pieces_of([1, 2], bare)) == 2, "what is no key of a mapping is read too"
