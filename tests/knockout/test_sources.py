"""What is hidden: every unit is a partition of what was asked for, and each wrong wish ends in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import InputError
from sightline.knockout.source import Selection
from sightline.knockout.sources import find_controls, find_row, find_sources
from sightline.knockout.words import Piece, pieces_of, word_positions
from sightline.models.layout import Modality, PatchGrid, TokenLayout


def layout(*runs: tuple[Modality, int], grids: Sequence[PatchGrid] = ()) -> TokenLayout:
    modality = torch.cat([torch.full((count,), int(kind), dtype=torch.int8) for kind, count in runs])[None]
    return TokenLayout(modality, modality.shape[1], (tuple(grids),), torch.zeros_like(modality).bool())


def grid(start: int, rows: int, columns: int, index: int = 0, **fields: object) -> PatchGrid:
    positions = torch.arange(start, start + rows * columns).reshape(rows, columns)
    return PatchGrid(Modality.IMAGE, index, positions, **fields)  # type: ignore[arg-type]


TWO_IMAGES = layout(
    (Modality.PADDING, 2),
    (Modality.TEXT, 3),
    (Modality.IMAGE, 12),
    (Modality.TEXT, 2),
    (Modality.IMAGE, 6),
    (Modality.TEXT, 4),
    grids=[grid(5, 3, 4), grid(19, 2, 3, index=1)],
)
"""Padding 0-1, text 2-4, image 5-16 (3 x 4), text 17-18, image 19-24 (2 x 3), text 25-28."""

PIECES = pieces_of(range(29))


@given(
    tokens=st.sampled_from(["text", "image", "all"]),
    unit=st.sampled_from(["token", "word", "patches"]),
    block=st.integers(1, 5),
    row=st.integers(6, 28),
)
def test_a_selection_covers_what_was_asked_for_once(tokens: str, unit: str, block: int, row: int) -> None:
    sources = find_sources(TWO_IMAGES, PIECES, row, Selection(tokens, unit, block))  # type: ignore[arg-type]
    hidden = [place for source in sources for place in source.positions]
    wanted = {
        "text": TWO_IMAGES.mask(Modality.TEXT),
        "image": TWO_IMAGES.mask(Modality.IMAGE),
        "all": TWO_IMAGES.mask(Modality.TEXT, Modality.IMAGE),
    }[tokens][0, :row]
    assert sorted(hidden) == wanted.nonzero()[:, 0].tolist()
    assert [source.positions for source in sources] == sorted(source.positions for source in sources)
    for source in sources:
        assert len(source.positions) <= (block**2 if source.modality == "image" else 1)


def test_patches_know_their_place() -> None:
    sources = find_sources(TWO_IMAGES, PIECES, 28, Selection("image"))
    assert [(source.image, source.row, source.col) for source in sources[:5]] == [
        (0, 0, 0),
        (0, 0, 1),
        (0, 0, 2),
        (0, 0, 3),
        (0, 1, 0),
    ]
    assert sources[-1].image == 1
    assert (sources[-1].row, sources[-1].col, sources[-1].grid) == (1, 2, 1)
    assert sources[5].box == pytest.approx((0.25, 1 / 3, 0.5, 2 / 3))


def test_blocks_are_smaller_at_the_edges() -> None:
    blocks = find_sources(TWO_IMAGES, PIECES, 28, Selection("image", "patches"))
    assert [len(block.positions) for block in blocks] == [4, 4, 2, 2, 4, 2]
    assert blocks[0].positions == (5, 6, 9, 10)
    assert blocks[0].text == "rows 0-1, columns 0-1"
    assert blocks[3].box == pytest.approx((0.5, 2 / 3, 1.0, 1.0))


def test_tiles_lie_in_their_part_of_the_picture() -> None:
    tiled = layout(
        (Modality.IMAGE, 8), (Modality.TEXT, 1), grids=[grid(0, 2, 2), grid(4, 2, 2, box=(0.5, 0.0, 1.0, 1.0))]
    )
    sources = find_sources(tiled, pieces_of(range(9)), 8)
    assert [source.grid for source in sources] == [0] * 4 + [1] * 4
    assert sources[4].box == pytest.approx((0.5, 0.0, 0.75, 0.5))


def test_modalities_and_each_image() -> None:
    found = {source.text: source for source in find_sources(TWO_IMAGES, PIECES, 28, Selection(unit="modality"))}
    assert list(found) == ["all text", "all image", "image 1", "image 2"]
    assert found["all text"].positions == (2, 3, 4, 17, 18, 25, 26, 27)
    assert found["image 2"].positions == tuple(range(19, 25))
    assert found["image 2"].image == 1
    assert found["all image"].image is None


def test_image_tokens_without_a_grid() -> None:
    plain = layout((Modality.IMAGE, 4), (Modality.TEXT, 2))
    sources = find_sources(plain, pieces_of(range(6)), 5, Selection("image"))
    assert [(source.positions, source.row) for source in sources] == [((place,), None) for place in range(4)]
    with pytest.raises(InputError, match="no known rows and columns"):
        find_sources(plain, pieces_of(range(6)), 5, Selection("image", "patches"))


def test_named_positions() -> None:
    first, second = find_sources(TWO_IMAGES, PIECES, 27, Selection(positions=(6, (27, 3))))
    assert (first.positions, first.modality, first.row, first.col) == ((6,), "image", 0, 1)
    assert (second.positions, second.modality) == ((3, 27), "text")


@pytest.mark.parametrize(
    ("selection", "row", "sentence"),
    [
        ({"positions": (20,)}, 18, "stands after the row 18"),
        ({"positions": (29,)}, 18, "outside the prompt"),
        ({"positions": (0,)}, 18, "is padding"),
        ({"positions": ()}, 18, "no positions to hide"),
        ({"positions": ((),)}, 18, "is empty"),
        ({}, 2, "Nothing stands before the row 2"),
        ({"tokens": "image"}, 4, "no image token before the row 4"),
        ({"tokens": "sound"}, 28, "no tokens called 'sound'; use text, image or all"),
        ({"unit": "pixel"}, 28, "no unit called 'pixel'"),
        ({"block": 0}, 28, "at least 1"),
        ({"unit": "modality", "block": 2}, 28, "has no blocks"),
    ],
)
def test_each_wrong_wish_is_one_sentence(selection: dict[str, object], row: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as told:
        find_sources(TWO_IMAGES, PIECES, row, Selection(**selection))  # type: ignore[arg-type]
    assert str(told.value).count(".") == 1


@pytest.mark.parametrize(("row", "place"), [("last", 28), (-1, 28), (2, 2), (-26, 3)])
def test_a_row(row: str | int, place: int) -> None:
    assert find_row(TWO_IMAGES, row) == place


@pytest.mark.parametrize("row", [0, 29, -30, "first", 1.0, True, None])
def test_no_row(row: object) -> None:
    with pytest.raises(InputError, match="row"):
        find_row(TWO_IMAGES, row)  # type: ignore[arg-type]


@given(
    size=st.integers(1, 6), draws=st.integers(0, 4), seed=st.integers(0, 9), among=st.sampled_from(["same", "other"])
)
def test_controls_are_of_equal_size_and_elsewhere(size: int, draws: int, seed: int, among: str) -> None:
    (source,) = find_sources(TWO_IMAGES, PIECES, 28, Selection(positions=(tuple(range(5, 5 + size)),)))
    controls = find_controls(TWO_IMAGES, [source], 28, draws, seed, among)  # type: ignore[arg-type]
    assert controls == find_controls(TWO_IMAGES, [source], 28, draws, seed, among)  # type: ignore[arg-type]
    assert len(controls) == draws
    kind = Modality.IMAGE if among == "same" else Modality.TEXT
    for control in controls:
        assert len(set(control.positions)) == size
        assert not set(control.positions) & set(source.positions)
        assert all(TWO_IMAGES.modality[0, place] == kind for place in control.positions)


def test_a_control_is_never_the_source_itself() -> None:
    everything = find_sources(TWO_IMAGES, PIECES, 28, Selection(unit="modality"))
    for control in find_controls(TWO_IMAGES, everything, 28, 3):
        assert control.positions not in {source.positions for source in everything}
    assert not find_controls(TWO_IMAGES, find_sources(TWO_IMAGES, PIECES, 3), 3, 2), "there is nothing else to draw"


# Words --------------------------------------------------------------------------------------------------------------


def tokenizer(words: Sequence[str], special: Sequence[str] = ()) -> SimpleNamespace:
    """As a byte-level or SentencePiece tokenizer marks its words."""

    def decode(ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(words[token] for token in ids).replace("Ġ", " ").replace("▁", " ").replace("##", "")

    return SimpleNamespace(
        convert_ids_to_tokens=lambda token: words[token],
        decode=decode,
        get_vocab=lambda: {word: number for number, word in enumerate(words)},
        all_special_ids=[words.index(word) for word in special],
    )


def spelled(words: Sequence[str], special: Sequence[str] = ()) -> list[str]:
    pieces = pieces_of(range(len(words)), tokenizer(words, special))
    return ["".join(pieces[place].text for place in word) for word in word_positions(list(enumerate(pieces)))]


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["Is", "Ġthere", "Ġa", "Ġtri", "angle", "?"], ["Is", "there", "a", "triangle", "?"]),
        (["▁Is", "▁that", "'", "s", "▁0", "5"], ["Is", "that's", "05"]),
        (["▁Is", "▁", "1", "2", "▁", "?"], ["Is", "12", "?"]),
        (["is", "that", "tri", "##angle", "?"], ["is", "that", "triangle", "?"]),
        (["<s>", "Ġa", "b", "<img>", "c"], ["<s>", "ab", "<img>", "c"]),
        (["Ġ红", "色", "の"], ["红", "色", "の"]),
        (["Ġשל", "ום", "Ġ\u202e"], ["שלום", "\u202e"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_words_by_the_tokenizers_marks(tokens: list[str], words: list[str]) -> None:
    assert spelled(tokens, [token for token in tokens if token.startswith("<")]) == words


def test_bytes_of_one_character_belong_together() -> None:
    pieces = [Piece("�"), Piece("�", True), Piece("x")]
    assert word_positions(list(enumerate(pieces))) == [(0, 1), (2,)]
    broken = SimpleNamespace(
        convert_ids_to_tokens=lambda token: ["ðŁ", "ĺĬ", "Ġa"][token],
        decode=lambda ids, skip_special_tokens=False: ["�", "�", " a"][ids[0]],
        get_vocab=lambda: {"ðŁ": 0, "ĺĬ": 1, "Ġa": 2},
    )
    assert word_positions(list(enumerate(pieces_of([2, 0, 1, 2], broken)))) == [(0,), (1, 2), (3,)]


def test_words_do_not_reach_over_gaps() -> None:
    assert word_positions([(3, Piece("a")), (5, Piece("b", True))]) == [(3,), (5,)]
