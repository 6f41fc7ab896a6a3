"""RePOPE: POPE with its labels looked at again by people (arXiv 2504.15707; files: github.com/YanNeu/RePOPE)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sightline.benchmarks.base import InvalidItem, Item, register
from sightline.benchmarks.pope import Pope
from sightline.errors import InputError


@register
@dataclass(frozen=True)
class Repope(Pope):
    """RePOPE: 8,185 of POPE's 9,000 COCO questions, 144, 178 and 172 labels of them changed; ambiguous ones are gone.

    Files, prompt and reading are POPE's; a folder with both takes the files of `repope` in their names. Its ids are
    POPE's, so answers to POPE are scored again without a model: `sightline score repope --answers RUN --data RePOPE`.
    """

    name: ClassVar[str] = "repope"
    title: ClassVar[str] = "RePOPE"
    labels: ClassVar[str] = "repope"
    shares_answers_of: ClassVar[tuple[str, ...]] = ("pope",)

    def _table(self, path: Path | None) -> list[Item | InvalidItem]:
        raise InputError(
            "RePOPE's label files are not on the hub: give the folder `annotations` of github.com/YanNeu/RePOPE, as in "
            "repope:FOLDER (to `sightline score`: --data FOLDER)."
        )
