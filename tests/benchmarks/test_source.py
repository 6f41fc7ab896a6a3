"""Tables from every layout, read without decoding, and what is left of damaged ones."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from benchmarks.tables import arrow_table, colour_of, png, write_parquet
from sightline.benchmarks import source, table_files
from sightline.benchmarks.source import BadRow, Row, read_tables
from sightline.data.pictures import load_image
from sightline.errors import InputError

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
ROWS = [{"id": f"q{number}", "image": png(colour)} for number, colour in enumerate(COLOURS)]


def whole(path: Path, *configs: str, split: str = "test") -> list[Row]:
    """The rows of a source that has one table of whole rows."""
    (table,) = read_tables(path, configs, split)
    rows = [row for row in table.rows if isinstance(row, Row)]
    assert len(rows) == len(table.rows)
    return rows


def test_every_layout_gives_the_same_rows(tmp_path: Path) -> None:
    import datasets

    write_parquet(tmp_path / "file.parquet", ROWS, ["image"], group=2)
    write_parquet(tmp_path / "hub" / "data" / "test-00000-of-00002.parquet", ROWS[:1], ["image"])
    write_parquet(tmp_path / "hub" / "data" / "test-00001-of-00002.parquet", ROWS[1:], ["image"])
    write_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", ROWS, ["image"])
    write_parquet(tmp_path / "hub" / ".cache" / "test-00000-of-00001.parquet", ROWS, ["image"])
    data = datasets.Dataset(arrow_table(ROWS, ["image"])).cast_column("image", datasets.Image())
    datasets.disable_progress_bars()
    data.save_to_disk(tmp_path / "saved", num_shards=2)
    datasets.DatasetDict({"test": data, "train": data.select([0])}).save_to_disk(tmp_path / "dict")
    datasets.enable_progress_bars()
    lines = tmp_path / "lines" / "data.jsonl"
    lines.parent.mkdir()
    for row in ROWS:
        (lines.parent / f"{row['id']}.png").write_bytes(row["image"])  # type: ignore[arg-type]
    lines.write_text("".join(json.dumps({"id": row["id"], "image": f"{row['id']}.png"}) + "\n" for row in ROWS))
    for name in ("file.parquet", "hub", "saved", "dict", "lines", "lines/data.jsonl"):
        rows = whole(tmp_path / name)
        assert [row.values["id"] for row in rows] == ["q0", "q1", "q2"], name
        assert [colour_of(row.images["image"]) for row in reversed(rows)] == [*reversed(COLOURS.values())], name


def test_images_are_fetched_late_and_name_their_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "HELD_LIMIT", 1)
    path = write_parquet(tmp_path / "t.parquet", ROWS * 30, ["image"], group=40)
    rows = whole(path)
    picture = rows[41].images["image"]
    assert isinstance(picture, source.RowImage)
    assert picture.name == "in column image of t.parquet, row 41"
    found: dict[int, tuple[int, int, int]] = {}
    threads = [
        threading.Thread(target=lambda place=place: found.update({place: colour_of(rows[place].images["image"])}))  # type: ignore[misc]
        for place in (89, 0, 41, 40, 39)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {place: [*COLOURS.values()][place % 3] for place in found}
    assert len(found) == 5
    path.unlink()
    refused = []
    for place in (1, 42, 81):  # one of each row group, none decoded before: no more than one group is held
        try:
            load_image(rows[place].images["image"])
        except InputError as error:
            refused.append(str(error))
    assert len(refused) >= 2
    assert all("image in column image of t.parquet, row" in said and "cannot be fetched" in said for said in refused)


def test_absent_images_and_paths_in_tables(tmp_path: Path) -> None:
    (tmp_path / "beside.png").write_bytes(png("blue"))
    images = [{"bytes": None, "path": None}, None, {"bytes": None, "path": "beside.png"}, {"bytes": b"no", "path": "x"}]
    rows = whole(
        write_parquet(tmp_path / "t.parquet", [{"id": "x", "image_1": image} for image in images], ["image_1"])
    )
    assert [sorted(row.images) for row in rows] == [[], [], ["image_1"], ["image_1"]]
    assert colour_of(rows[2].images["image_1"]) == COLOURS["blue"]
    with pytest.raises(InputError, match=r"in column image_1 of t\.parquet, row 3 cannot be read"):
        load_image(rows[3].images["image_1"])


def test_configurations_are_told_by_folder_and_by_name(tmp_path: Path) -> None:
    names = ["vision", "standard (10 options)"]
    write_parquet(tmp_path / "vision" / "test-00000-of-00001.parquet", ROWS[:1], ["image"])
    write_parquet(tmp_path / "standard (10 options)" / "test" / "0000.parquet", ROWS[1:], ["image"])
    assert [(table.config, len(table.rows)) for table in read_tables(tmp_path, names, "test")] == [
        ("vision", 1),
        ("standard (10 options)", 2),
    ]
    for place in ("vision", "vision/test-00000-of-00001.parquet"):
        assert read_tables(tmp_path / place, names, "test")[0].config == "vision"
    write_parquet(tmp_path / "apart" / "pro_Standard-10-options_test.parquet", ROWS, ["image"])
    assert read_tables(tmp_path / "apart", names, "test")[0].config == "standard (10 options)"
    assert read_tables(write_parquet(tmp_path / "apart" / "x.parquet", ROWS, ["image"]), names, "test")[0].config == ""


def test_a_truncated_or_damaged_parquet_gives_what_it_can(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "data" / "test-00000-of-00002.parquet", ROWS, ["image"], group=1)
    content = path.read_bytes()
    damaged = bytearray(content)
    import pyarrow.parquet as parquet

    column = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    damaged[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(damaged)
    (table,) = read_tables(tmp_path, [], "test")
    assert [isinstance(row, Row) for row in table.rows] == [True, False, True]
    assert table.rows[1].where == "data/test-00000-of-00002.parquet, row 1"
    cut = path.with_name("test-00001-of-00002.parquet")
    cut.write_bytes(content[: len(content) // 2])
    (table,) = read_tables(tmp_path, [], "test")
    assert [isinstance(row, BadRow) for row in table.rows] == [False, True, False, True]
    for name, wrong in (("cut.parquet", content[:-9]), ("zero.parquet", b""), ("words.parquet", b"words")):
        (tmp_path / name).write_bytes(wrong)
        with pytest.raises(InputError, match=f"{name} cannot be read") as caught:
            read_tables(tmp_path / name, [], "test")
        assert "\n" not in str(caught.value)


def test_a_truncated_arrow_file_gives_its_whole_batches(tmp_path: Path) -> None:
    import pyarrow as pa

    table = arrow_table(ROWS, ["image"])
    path = tmp_path / "data.arrow"
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, max_chunksize=1)
    path.write_bytes(path.read_bytes()[:-200])
    (found,) = read_tables(path, [], "test")
    assert [row.values["id"] for row in found.rows if isinstance(row, Row)] == ["q0", "q1"]
    assert isinstance(found.rows[-1], BadRow)


def test_what_is_said_when_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    write_parquet(tmp_path / "other" / "train-00000-of-00001.parquet", ROWS, ["image"])
    write_parquet(tmp_path / "none.parquet", ROWS, ["image"]).write_bytes(
        write_parquet(tmp_path / "empty" / "t.parquet", [], []).read_bytes()
    )
    for name, said in {
        "absent": "does not exist",
        "notes.txt": "of no kind that is read",
        "other": "of the split test: there are files of train alone",
        "none.parquet": "holds no row",
    }.items():
        with pytest.raises(InputError, match=said):
            read_tables(tmp_path / name, [], "test")


def test_the_hub_out_of_reach_says_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"hf download made/up --repo-type dataset --local-dir DIR`, and give") as e:
        source.hub_table("made/up", "vision", "test", "blink")
    assert "made/up (vision, test) is not on this machine" in str(e.value)
    assert str(e.value).endswith("and give `blink:DIR` (to `sightline score`: --data DIR).")
    assert capfd.readouterr() == ("", "")


def test_a_cached_table_of_the_hub_is_read_without_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets

    data = datasets.Dataset(arrow_table(ROWS, ["image"])).cast_column("image", datasets.Image())
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: data)
    rows = [row for row in source.hub_table("made/up", None, "test").rows if isinstance(row, Row)]
    assert [row.values["id"] for row in rows] == ["q0", "q1", "q2"]
    assert [colour_of(row.images["image"]) for row in rows] == [*COLOURS.values()]
    assert not datasets.are_progress_bars_disabled()
    assert capfd.readouterr() == ("", "")
