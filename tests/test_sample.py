"""Samples: what is read, what is refused, and that no picture is too large or too small."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline.data.json_lines import read_samples, write_samples
from sightline.data.pictures import PIXEL_LIMIT, SIDE_MINIMUM, load_image
from sightline.data.sample import Sample
from sightline.errors import InputError


def save(path: Path, size: tuple[int, int] = (8, 6), colour: str = "red", mode: str = "RGB") -> Path:
    Image.new(mode, size, colour).save(path)
    return path


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_image_is_a_shortcut_for_a_single_one() -> None:
    assert Sample(image="cat.jpg", prompt="Is there a cat?") == Sample("Is there a cat?", images=("cat.jpg",))
    with pytest.raises(InputError, match="not both"):
        Sample("hello", images=("a.png",), image="b.png")


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(InputError, match="prompt of sample 'x' is empty"):
        Sample(prompt, id="x")


def test_media() -> None:
    assert not Sample("hello").has_media
    assert Sample("hello", image="a.png").has_media
    assert Sample("hello", video=["a.png"]).has_media
    assert Sample("hello", audio="a.wav").has_media


def test_unusable_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "zero.png").touch()
    (tmp_path / "words.png").write_text("no picture")
    whole = save(tmp_path / "whole.png", (64, 64)).read_bytes()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) // 2])
    for name, reason in {
        "missing.png": "does not exist",
        "zero.png": "zero bytes",
        "words.png": "not an image",
        "torn.png": "cannot be read",
        ".": "is a folder",
    }.items():
        with pytest.raises(InputError, match=reason) as caught:
            load_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_name_with_a_nul_byte_is_one_sentence() -> None:
    for name in ("a\0b.png", Path("a\0b.png")):
        with pytest.raises(InputError, match=r"^The image 'a\\x00b\.png' holds a NUL byte"):
            load_image(name)


class Row:
    """An image fetched when its turn comes; counts how often that was."""

    name = "image_1 of row 7"

    def __init__(self, content: bytes | Exception) -> None:
        self.content, self.reads = content, 0

    def read(self) -> bytes:
        self.reads += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


def encoded(kind: str, colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_encoded_images_are_fetched_when_loaded_and_not_before(kind: str) -> None:
    row = Row(encoded(kind))
    sample = Sample("what?", images=(encoded(kind), row))
    assert row.reads == 0
    as_bytes, as_row = sample.load_images()
    assert row.reads == 1
    assert as_bytes.tobytes() == as_row.tobytes() == Image.open(io.BytesIO(encoded(kind))).convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"", "given as bytes is empty"),
        (b"\0" * 90, "given as bytes cannot be read .*not an image"),
        (encoded("PNG")[:40], "given as bytes cannot be read"),
        (Row(b""), "image_1 of row 7 is empty"),
        (Row(OSError("Corrupt snappy\n data")), r"image_1 of row 7 cannot be fetched \(Corrupt snappy data\)"),
        (7, "int is none of them"),
        (None, "NoneType is none of them"),
    ],
)
def test_unusable_encoded_images(source: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_image(source)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_encoded_images_are_written_as_they_are(tmp_path: Path) -> None:
    images = (encoded("JPEG"), Row(encoded("PNG")), b"no picture")
    write_samples(tmp_path / "data.jsonl", [Sample("what?", images=images)])
    (back,) = read_samples(tmp_path / "data.jsonl")
    assert [Path(str(image)).name for image in back.images] == ["1-0.jpeg", "1-1.png", "1-2.image"]
    assert [Path(str(image)).read_bytes() for image in back.images] == [images[0], encoded("PNG"), b"no picture"]


def test_the_pieces_between_images() -> None:
    assert Sample("Is it red?", images=("a.png", "b.png")).pieces() == ["Is it red?"]
    assert Sample("<image> or<image>?", images=("a.png", "b.png")).pieces() == ["", " or", "?"]
    for prompt, images in (("<image>", ()), ("<image>", ("a.png", "b.png")), ("<image> <image>", ("a.png",))):
        with pytest.raises(InputError, match=r"sample 'x' marks places .*as many markers as images"):
            Sample(prompt, images=images, id="x").pieces()


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\x00"])
)
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes, magic: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "file.png"
    path.write_bytes(magic + content)
    with pytest.raises(InputError):
        load_image(path)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 50), (50, 3)])
def test_small_sides_are_enlarged(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = load_image(save(tmp_path / "small.png", size))
    assert min(picture.size) >= SIDE_MINIMUM
    assert picture.width * size[1] == picture.height * size[0]
    assert picture.getpixel((0, 0)) == (255, 0, 0)


def test_ordinary_images_are_left_alone(tmp_path: Path) -> None:
    noise = Image.effect_noise((48, 31), 80).convert("RGB")
    noise.save(tmp_path / "noise.png")
    assert load_image(tmp_path / "noise.png").tobytes() == noise.tobytes()
    assert load_image(noise).tobytes() == noise.tobytes()


@pytest.mark.parametrize(
    ("mode", "colour"), [("1", 1), ("L", 255), ("P", 0), ("RGBA", "white"), ("I;16", 65535), ("CMYK", 0)]
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, colour: str | int) -> None:
    picture = Image.new(mode, (8, 8), colour)
    path = tmp_path / ("file.jpg" if mode == "CMYK" else "file.png")
    if mode == "P":
        picture.putpalette([255, 255, 255])
    picture.save(path)
    assert load_image(path).mode == "RGB"
    assert load_image(path).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    picture = Image.effect_noise((12, 8), 80).convert("RGB")
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "turned.png", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "turned.png"))
    loaded = load_image(tmp_path / "turned.png")
    assert loaded.tobytes() == upright.tobytes()
    assert load_image(loaded).tobytes() == upright.tobytes(), "loaded again, it is not turned again"


def test_a_gigantic_image_is_reduced_and_pillows_limit_stays(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    picture = Image.new("1", (14_000, 14_000))
    picture.paste(1, (7_000, 0, 14_000, 14_000))
    picture.save(tmp_path / "large.png")
    small = load_image(tmp_path / "large.png")
    assert small.size == (4096, 4096)
    assert small.getpixel((1000, 2000)) == (0, 0, 0)
    assert small.getpixel((3000, 2000)) == (255, 255, 255)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(("size", "kind"), [((4_700, 3_700), "jpg"), ((24_500, 700), "png"), ((700, 24_500), "png")])
def test_large_images_keep_their_shape(tmp_path: Path, size: tuple[int, int], kind: str) -> None:
    small = load_image(save(tmp_path / f"large.{kind}", size, "blue"))
    assert small.width * small.height <= PIXEL_LIMIT
    assert small.width / small.height == pytest.approx(size[0] / size[1], rel=0.01)
    assert all(
        abs(a - b) < 3 for a, b in zip(small.getpixel((small.width - 1, small.height - 1)), (0, 0, 255), strict=True)
    )


def test_an_image_beyond_decoding_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.data.pictures.DECODED_LIMIT", 10)
    with pytest.raises(InputError, match="8 x 6 pixels"):
        load_image(save(tmp_path / "file.png"))


def test_samples_come_back_as_written(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    samples = [
        Sample("one?", id="first", image=tmp_path / "a.png", answer="yes"),
        Sample("two?", images=(tmp_path / "a.png", Image.new("RGB", (5, 5), "blue"))),
        Sample("no picture", id="text"),
        Sample("film", video=(tmp_path / "a.png",), audio=tmp_path / "a.wav"),
    ]
    write_samples(tmp_path / "data.jsonl", samples)
    back = read_samples(tmp_path / "data.jsonl")
    assert [sample.id for sample in back] == ["first", "2", "text", "4"]
    assert [sample.prompt for sample in back] == [sample.prompt for sample in samples]
    assert back[0].answer == "yes"
    assert back[0].images == (tmp_path / "a.png",)
    assert back[1].load_images()[1].getpixel((2, 2)) == (0, 0, 255)
    assert back[3].load_video()[0].size == (8, 6)
    assert back[3].audio == tmp_path / "a.wav"


def test_ids_are_words_and_lines_without_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 7, "prompt": "a"}\r\n\r\n{"prompt": "b", "answer": 3}')
    assert [(sample.id, sample.answer) for sample in read_samples(path)] == [("7", None), ("3", "3")]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('{"id": "b", "prompt": ', "not valid JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"id": "b", "image": "a.png"}', '"prompt" is missing or empty'),
        ('{"id": "b", "prompt": " "}', '"prompt" is missing or empty'),
        ('{"id": "b", "prompt": "p", "image": 3}', "must be a file name"),
        ('{"id": "b", "prompt": "p", "images": ["a.png", null]}', "must be a file name"),
        ('{"id": "b", "prompt": "p", "image": "a.png", "images": ["a.png"]}', "give one of them"),
        ('{"id": "a", "prompt": "p"}', "already that of line 1"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, broken: str, reason: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"id": "a", "prompt": "p"}\n\n' + broken + "\n", errors="surrogateescape", encoding="utf-8")
    with pytest.raises(InputError, match=reason) as caught:
        read_samples(path)
    assert f"{path}, line 3" in str(caught.value)


def test_data_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    for name, reason in {
        "missing.jsonl": "does not exist",
        ".": "is a folder",
        "empty.jsonl": "holds no sample",
    }.items():
        with pytest.raises(InputError, match=reason):
            read_samples(tmp_path / name)
