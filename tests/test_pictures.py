"""The pixels that a processor is given: those of the plain Transformers user, upright, bounded, never clipped."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from model_folders import SAVERS, load_or_skip
from sightline.data.pictures import DECODED_LIMIT, PIXEL_LIMIT, load_image
from sightline.errors import InputError, SightlineWarning

FORMATS = ("PNG", "GIF", "TIFF", "WEBP", "BMP", "JPEG", "JPEG2000", "PPM", "TGA", "ICO", "PCX", "SGI", "DDS", "AVIF")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa")


def drawing(mode: str) -> Image.Image:
    """Noise whose alpha, where it has some, runs from nothing to whole."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 4), dtype=np.uint8)
    noise[..., 3] = np.linspace(0, 255, 24).astype(np.uint8)
    picture = Image.fromarray(noise)
    if mode in ("P", "PA"):
        return picture.convert("RGB").quantize(16).convert(mode)
    if mode in ("La", "RGBa"):
        return picture.convert("LA" if mode == "La" else "RGBA").convert(mode)
    if mode in ("LAB", "HSV"):
        return Image.merge(mode, picture.split()[:3])
    return picture.convert(mode)


def files() -> Iterator[tuple[str, bytes]]:
    """A picture of each mode in each format that can hold it, and those with a colour that counts as transparent."""
    for kind in FORMATS:
        for mode in MODES:
            file = io.BytesIO()
            try:
                drawing(mode).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
            except (OSError, KeyError, ValueError):
                continue
            yield f"{mode}-{kind}", file.getvalue()
    for kind, mode, key in (
        ("PNG", "P", 3),
        ("GIF", "P", 3),
        ("PNG", "L", 90),
        ("PNG", "1", 1),
        ("PNG", "P", b"\0\x80"),
    ):
        file = io.BytesIO()
        drawing(mode).save(file, kind, transparency=key)
        yield f"{mode}-{kind}-{key!r}", file.getvalue()
    file = io.BytesIO()
    red = Image.new("RGB", (16, 16), "red")
    red.paste("blue", (4, 4, 9, 9))
    red.save(file, "PNG", transparency=(255, 0, 0))
    yield "RGB-PNG-red", file.getvalue()


FILES = dict(files())
SEEING = [name for name in SAVERS if not name.startswith(("llama", "qwen2_audio"))]


def pixels(processor: Any, picture: Image.Image) -> torch.Tensor:
    try:
        found = processor(images=picture, return_tensors="pt")["pixel_values"]
    except ValueError:  # one that does not convert refuses four channels: its user converts as the others do
        found = processor(images=picture, return_tensors="pt", do_convert_rgb=True)["pixel_values"]
    return torch.as_tensor(found)


def test_there_are_files_of_all_kinds() -> None:
    assert len(FILES) > 45
    assert {name.split("-")[1] for name in FILES} >= {"PNG", "GIF", "TIFF", "WEBP", "BMP", "JPEG", "PPM", "TGA", "ICO"}


@pytest.mark.parametrize("family", SEEING)
def test_pixels_are_those_of_the_plain_user(family: str, tmp_path: Path) -> None:
    processor = load_or_skip(SAVERS[family](tmp_path / family)).processor.image_processor
    for name, content in FILES.items():
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            plain = pixels(processor, opened)
        assert torch.equal(plain, pixels(processor, load_image(content))), name


def test_black_on_transparent_is_black_on_white(tmp_path: Path) -> None:
    for mode, kind in (("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("RGBA", "ICO")):
        picture = Image.new(mode, (16, 16), (0,) * len(mode))
        picture.paste((0,) * (len(mode) - 1) + (255,), (4, 4, 12, 12))
        picture.save(tmp_path / "file", kind, **({"lossless": True} if kind == "WEBP" else {}))
        loaded = load_image(tmp_path / "file")
        assert loaded.getpixel((0, 0)) == (255, 255, 255)
        assert loaded.getpixel((8, 8)) == (0, 0, 0)
        assert load_image(picture).tobytes() == loaded.tobytes(), "a picture in memory is read as its file"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_a_picture_of_any_format_is_turned_once(kind: str, orientation: int) -> None:
    picture = Image.new("RGB", (60, 40), "white")
    picture.paste("red", (0, 0, 60, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture.save(file, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = ImageOps.exif_transpose(_tagged(picture, orientation))
    loaded = load_image(file.getvalue())
    assert loaded.size == expected.size
    assert np.abs(np.asarray(loaded).astype(int) - np.asarray(expected)).mean() < (3 if kind == "JPEG" else 1e-9)


def _tagged(picture: Image.Image, orientation: int) -> Image.Image:
    copy = picture.copy()
    copy.getexif()[0x0112] = orientation
    return copy


def ramp(least: float, most: float, kind: Any) -> Image.Image:
    return Image.fromarray(np.tile(np.linspace(least, most, 256).astype(kind), (16, 1)))


@pytest.mark.parametrize(
    ("least", "most", "kind"),
    [
        (0, 65535, np.int32),
        (0, 255, np.int32),
        (0, 4095, np.int32),
        (-1000, 3000, np.int32),
        (0, 1, np.float32),
        (0, 255, np.float32),
        (-1, 1, np.float32),
    ],
)
def test_grey_of_32_bits_is_scaled_from_its_range_and_named(
    tmp_path: Path, least: float, most: float, kind: Any
) -> None:
    ramp(least, most, kind).save(tmp_path / "grey.tiff")
    with pytest.warns(SightlineWarning, match=rf"grey\.tiff has .*scaled from its range {least:g} to {most:g}"):
        loaded = load_image(tmp_path / "grey.tiff")
    assert np.abs(np.asarray(loaded)[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_grey_of_16_bits_has_its_whole_range(tmp_path: Path) -> None:
    ramp(0, 65535, np.uint16).save(tmp_path / "grey.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image(tmp_path / "grey.png")
    assert np.abs(np.asarray(loaded)[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize(("value", "shown"), [(0.5, 128), (0.0, 0), (200.0, 200), (1e9, 128)])
def test_one_grey_value_alone_is_read_by_a_usual_range(value: float, shown: int) -> None:
    with pytest.warns(SightlineWarning):
        assert load_image(Image.new("F", (8, 8), value)).getpixel((3, 3)) == (shown,) * 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    values = np.zeros((8, 8), np.float32)
    values[3, 3] = value
    with pytest.raises(InputError, match="no numbers"):
        load_image(Image.fromarray(values))


def bomb(kind: str, size: tuple[int, int], mode: str = "RGB") -> bytes:
    """The head of a large picture and nothing behind it: what is refused is refused before it is decoded."""
    file = io.BytesIO()
    Image.new(mode, (8, 8)).save(file, kind)
    content = bytearray(file.getvalue())
    content[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(("size", "mode"), [((32_000, 32_000), "RGB"), ((32_000, 32_000), "L"), ((10**6, 10**4), "L")])
def test_what_would_take_gigabytes_is_refused_before_it_is_decoded(size: tuple[int, int], mode: str) -> None:
    with pytest.raises(InputError, match=f"is {size[0]} x {size[1]} pixels, which take .* GB"):
        load_image(bomb("PNG", size, mode))


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG2000", {})])
def test_a_format_that_can_is_decoded_at_a_reduced_size(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (2048, 1024), "blue").save(file, kind, **options)
    monkeypatch.setattr("sightline.data.pictures.PIXEL_LIMIT", 256 * 128)
    whole = 2048 * 1024 * (6 if options else 1)  # no decoding to the whole size would pass
    monkeypatch.setattr("sightline.data.pictures.DECODED_LIMIT", whole)
    small = load_image(file.getvalue())  # bytes of their own each time: a picture is decoded once
    assert small.size == (256, 128)
    assert small.getpixel((100, 100))[2] > 250
    monkeypatch.setattr("sightline.data.pictures.DECODED_LIMIT", 100_000)
    with pytest.raises(InputError, match=r"progressive JPEG of 2048 x 1024|256 x 128"):
        load_image(bytes(bytearray(file.getvalue())))


def test_a_picture_that_is_asked_for_again_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    open_one = Image.open
    monkeypatch.setattr(Image, "open", lambda file, *rest: opened.append(file) or open_one(file, *rest))
    path = tmp_path / "one.png"
    drawing("RGB").save(path)
    content = path.read_bytes()
    first, second = load_image(path), load_image(path)
    first.paste("red", (0, 0, 4, 4))
    assert second.tobytes() == load_image(path).tobytes() != first.tobytes(), "nobody's changes are another's"
    assert load_image(content).tobytes() == load_image(content).tobytes() == second.tobytes()
    assert len(opened) == 2
    Image.new("RGB", (16, 24), "blue").save(path)
    assert load_image(path).getpixel((0, 0)) == (0, 0, 255), "a file that was written anew is read anew"


def test_no_more_pictures_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.data.kept_pictures import KeptPictures

    kept = KeptPictures(most=3 * 10 * 10 * 3)
    sources = [bytes([number]) for number in range(5)]
    for source in sources:
        kept.put(source, Image.new("RGB", (10, 10)))
    assert [kept.get(source) is not None for source in sources] == [False, False, True, True, True]
    kept.put(large := b"large", Image.new("RGB", (100, 100)))
    assert kept.get(large) is None
    assert kept.get(sources[4]) is not None


def test_the_bounds_leave_ordinary_pictures_alone() -> None:
    assert DECODED_LIMIT >= 4 * 13_000 * 13_000
    assert PIXEL_LIMIT >= 12_800_000


def test_names_that_no_file_can_have_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reason in (
        ("x" * 300 + ".png", "cannot be read .*too long"),
        ("a/" * 3000 + "b.png", "cannot be read .*too long"),
        ("\0.png", "NUL byte"),
        (str(tmp_path), "is a folder"),
        ("\ud800.png", "does not exist|cannot be read"),
        ("/dev/zero", "device or a pipe"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            load_image(name)
        assert len(str(caught.value)) <= 500

    def closed(path: Any, **_: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(InputError, match="permission denied"):
        load_image("closed/file.png")
