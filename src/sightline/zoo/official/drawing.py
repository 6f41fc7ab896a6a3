"""Where drawn benchmarks are kept: a folder that is given, or the cache."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from sightline.errors import InputError
from sightline.files.json import json_text, write_error
from sightline.zoo.official import LAYOUTS
from sightline.zoo.official.files import Tick

README = "README.md"
MARK = "Drawn by `sightline shapes`."
"""Stands in the README.md of every folder that is drawn, and nowhere else: only such a folder is ever replaced."""

SIZE = 48
"""Side of the pictures in pixels, as the bundled models see them."""

MOST = 100_000
SIZES = (8, 2048)
PART = ".drawing-"


def draw(
    bench: str,
    folder: Path,
    count: int | None = None,
    seed: int = 0,
    size: int = SIZE,
    is_forced: bool = False,
    tick: Tick = lambda done: None,
) -> int:
    """Draws a benchmark into a folder, new or empty, and returns how many questions were wanted.

    Args:
        bench: one of LAYOUTS. count: questions (CHAIR: pictures), 1 to MOST; None: the benchmark's default.
        size: side of the pictures in pixels, 8 to 2,048.
        is_forced: replaces a folder that was drawn before.

    Raises:
        InputError: unknown benchmark, count or size out of range, a folder that holds something else or is not to be
            written. Nothing is changed then.
        SightlineError: the disk is full.
    """
    amount = _checked(bench, count, size)
    is_new = _claim(folder, is_forced)
    part = folder / f"{PART}{os.getpid()}"
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be written ({error.strerror}): give --out another.") from error
    try:
        _draw(bench, part, amount, seed, size, tick)
        _move(part, folder)
    except OSError as error:
        raise write_error(folder, error, "what was drawn is taken away again") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # not empty: it was drawn
                folder.rmdir()
    return amount


def drawn(bench: str, count: int | None = None, seed: int = 0, size: int = SIZE) -> Path:
    """The folder of a drawn benchmark in the cache, drawn now if it is not there.

    The cache is `sightline` below XDG_CACHE_HOME or ~/.cache; where that cannot be written, the system's temporary
    folder. What older versions of this code drew is not taken up.
    """
    amount = _checked(bench, count, size)
    name = f"{bench}-{amount}-{seed}-{size}px-{_digest()}"
    roots = (_cache(), Path(tempfile.gettempdir()) / "sightline")
    for root in roots:
        folder = root / "shapes" / name
        try:
            return folder if (folder / README).is_file() else _fill(folder, bench, amount, seed, size)
        except OSError as failure:
            error = failure
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise write_error(roots[0], error, "nothing is kept of what was drawn") from error
    raise InputError(
        f"Neither {roots[0]} nor {roots[1]} can be written ({error.strerror}), where drawn benchmarks are kept: set "
        "XDG_CACHE_HOME to a folder that can."
    ) from error


def _fill(folder: Path, bench: str, amount: int, seed: int, size: int) -> Path:
    """Draws beside the folder and takes its name at once, so that it is never there in part."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=PART, dir=folder.parent))
    try:
        _draw(bench, part, amount, seed, size, lambda done: None)
        with suppress(OSError):  # another process was first: the same files
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if not (folder / README).is_file():
        raise OSError(errno.EEXIST, "something else has its name", str(folder))
    return folder


def _draw(bench: str, folder: Path, amount: int, seed: int, size: int, tick: Tick) -> None:
    LAYOUTS[bench].write(folder, amount, seed, size, tick)
    (folder / README).write_text(_readme(bench, amount, seed, size), encoding="utf-8")


def _checked(bench: str, count: int | None, size: int) -> int:
    if bench not in LAYOUTS:
        raise InputError(f"There is no benchmark named '{bench}' to draw; give one of {', '.join(LAYOUTS)}.")
    amount = LAYOUTS[bench].count if count is None else count
    if not 1 <= amount <= MOST:
        raise InputError(f"{amount} {LAYOUTS[bench].unit} cannot be drawn: give 1 to {MOST:,}.")
    if not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"Pictures of {size} pixels cannot be drawn: give {SIZES[0]} to {SIZES[1]:,}.")
    return amount


def _claim(folder: Path, is_forced: bool) -> bool:
    """Whether it is new. InputError unless the folder is new or empty, or was drawn before and may be replaced."""
    try:
        if not folder.exists():
            return True
        if not folder.is_dir():
            raise InputError(f"{folder} is a file: give --out a folder, new or empty.")
        if all(path.name.startswith(PART) for path in folder.iterdir()):
            return False
        is_drawn = (folder / README).is_file() and MARK in (folder / README).read_text("utf-8", "replace")
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}): give --out another.") from error
    if not is_drawn:
        raise InputError(
            f"The folder {folder} is not empty and holds other things than a drawn benchmark, which are never "
            "replaced: give --out a new folder."
        )
    if not is_forced:
        raise InputError(f"The folder {folder} holds a drawn benchmark: give --force to replace it, or a new folder.")
    return False


def _move(part: Path, folder: Path) -> None:
    """Empties a folder that was drawn before, and moves the new files up; the README last."""
    for old in folder.iterdir():
        if old.is_dir() and not old.is_symlink() and old != part:
            shutil.rmtree(old)
        elif old != part:
            old.unlink()
    for path in sorted(part.iterdir(), key=lambda path: path.name == README):
        path.rename(folder / path.name)


def _readme(bench: str, amount: int, seed: int, size: int) -> str:
    """What the folder is; its head lets `datasets.load_dataset` find the configurations, as on the hub."""
    layout = LAYOUTS[bench]
    configs = [
        {"config_name": name, "data_files": [{"split": files.split("/")[1].split("-")[0], "path": files}]}
        for name, files in layout.configs
    ]
    head = f"---\nconfigs: {json_text(configs)}\n---\n" if configs else ""
    return (
        f"{head}# {bench}, in a world of coloured shapes\n\n{MARK} This is not the official data, only its format.\n\n"
        f"    sightline shapes --bench {bench} --count {amount} --seed {seed} --size {size} --out DIR\n\n"
        f"{layout.about}\n"
    )


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "sightline"


@lru_cache(maxsize=1)
def _digest() -> str:
    """Of the code that draws: what it drew otherwise is not what it would draw now."""
    whole = hashlib.sha256()
    zoo = Path(__file__).parents[1]
    for path in sorted((*zoo.glob("*.py"), *zoo.glob("official/*.py"))):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:10]
