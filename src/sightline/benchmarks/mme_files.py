"""MME's files: the release with its images, and the folder of eval_tool with a text file a subtask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sightline.errors import InputError
from sightline.files.jsonl import read_text

QUESTIONS, IMAGES = "questions_answers_YN", "images"
SUFFIXES = (".jpg", ".png", ".jpeg", ".bmp", ".webp")
RELEASE = ("", "MME_Benchmark", "MME_Benchmark_release_version", "MME_Benchmark_release_version/MME_Benchmark")
"""Where the subtasks' folders stand below the folder that is given."""

RESULTS = ("", "eval_tool/Your_Results", "Your_Results")


class MmeLine(NamedTuple):
    """One question. response: None where the line has none. file: its image. where: for errors."""

    subtask: str
    image: str
    question: str
    truth: str
    where: str
    response: str | None = None
    file: Any = None


def is_table(path: Path) -> bool:
    """Whether these are the hub's files and not the release's."""
    if path.is_file():
        return path.suffix in (".parquet", ".arrow")
    return any(any(path.glob(pattern)) for pattern in ("*.parquet", "*/*.parquet", "*.arrow", "*/*.arrow"))


def question_lines(path: Path, subtasks: Sequence[str]) -> list[MmeLine]:
    """The questions of the release, or of eval_tool's text files with images where the release has them beside.

    Raises InputError, saying what is expected, when there are none.
    """
    if not path.exists():
        raise InputError(f"The MME data {path} does not exist: give the folder of the release or of eval_tool.")
    folders = _subtask_folders(path, subtasks)
    if folders:
        return [line for name in subtasks if name in folders for line in _release(name, folders[name])]
    for below in RESULTS:
        lines = answer_lines(path / below, subtasks)
        if lines:
            return [line._replace(file=_beside(path, line)) for line in lines]
    raise InputError(
        f"{path} holds no MME questions: the release's folders ({', '.join(subtasks[:3])}, ...) with a text file an "
        f"image, or eval_tool's text files ({subtasks[0]}.txt, ...) are expected."
    )


def answer_lines(path: Path, subtasks: Sequence[str]) -> list[MmeLine] | None:
    """The lines "image TAB question TAB truth TAB response" of eval_tool; None for anything but its files.

    A tab within the response stays in it. Empty lines are passed over. Raises InputError for a line of fewer columns
    than three.
    """
    if path.is_file() and path.suffix == ".txt" and path.stem in subtasks:
        return list(_table(path.stem, path))
    if not path.is_dir():
        return None
    files = [path / f"{name}.txt" for name in subtasks if (path / f"{name}.txt").is_file()]
    return [line for file in files for line in _table(file.stem, file)] if files else None


def _table(subtask: str, file: Path) -> Iterator[MmeLine]:
    for number, text in _lines(file):
        where = f"{file}, line {number}"
        columns = text.split("\t", 3)
        if len(columns) < 3:
            raise InputError(f"{where}: image, question, truth and response are expected, with tabs between them.")
        yield MmeLine(subtask, columns[0], columns[1], columns[2], where, columns[3] if len(columns) == 4 else None)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines as Python reads text files: \\r\\n, \\r and \\n end one, and no other sign does."""
    text = read_text(file).replace("\r\n", "\n").replace("\r", "\n")
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip(" \0"))


def _subtask_folders(path: Path, subtasks: Sequence[str]) -> dict[str, Path]:
    if path.name in subtasks and _has_questions(path):
        return {path.name: path}
    for below in RELEASE:
        found = {name: path / below / name for name in subtasks if _has_questions(path / below / name)}
        if found:
            return found
    return {}


def _has_questions(folder: Path) -> bool:
    return any(folder.glob("*.txt")) or any(folder.glob(f"{QUESTIONS}/*.txt"))


def _release(subtask: str, folder: Path) -> Iterator[MmeLine]:
    questions = folder / QUESTIONS if (folder / QUESTIONS).is_dir() else folder
    images = folder / IMAGES if (folder / IMAGES).is_dir() else folder
    files = {file.stem: file for file in sorted(images.iterdir(), reverse=True) if file.suffix.lower() in SUFFIXES}
    for text in sorted(questions.glob("*.txt")):
        image = files.get(text.stem, images / f"{text.stem}{SUFFIXES[0]}")
        for number, line in _lines(text):
            question, _, truth = line.rpartition("\t")
            yield MmeLine(subtask, image.name, question, truth, f"{text}, line {number}", file=image)


def _beside(path: Path, line: MmeLine) -> Path:
    folder = path if path.is_dir() else path.parent
    for above in (folder, *folder.resolve().parents[:2]):
        for below in RELEASE:
            for inner in (IMAGES, ""):
                file = above / below / line.subtask / inner / line.image
                if file.is_file():
                    return file
    return folder / line.subtask / line.image
