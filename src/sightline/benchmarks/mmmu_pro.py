"""MMMU-Pro: college questions with up to ten options, as text with images or as one screenshot (arXiv 2409.02813).

Files: MMMU/MMMU_Pro of the hub. Prompts and script: github.com/MMMU-Benchmark/MMMU, folder mmmu-pro.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sightline.benchmarks import choices, source
from sightline.benchmarks.answer_fields import STRONG
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.mmmu_pro_rules import CONFIGS, DISCIPLINE_OF, INSTRUCTIONS, official_letter, subject_of
from sightline.data.messages import IMAGE_MARKER
from sightline.errors import InputError
from sightline.files.jsonl import id_text, json_objects

if TYPE_CHECKING:
    from sightline.data.pictures import ImageLike

HUB = "MMMU/MMMU_Pro"

LONG_ANSWER = 1024
"""New tokens by default in the mode `cot`."""


@register
@dataclass(frozen=True)
class MmmuPro(Benchmark):
    """MMMU-Pro: multiple choice over 30 subjects; chance is 12.8% with up to ten options.

    Fields:
        split: vision, standard-10, standard-4 or their official names. None: vision, as the official scripts; where a
            local copy has no vision, what it has.
        mode: direct, or cot for step-by-step answers, with the official words of each.
        template: `{question}` and `{options}` ("A. ...", one a line); `{instruction}` is the official closing line.
            Vision questions stand in the image: there a template may do without.
    """

    name: ClassVar[str] = "mmmu-pro"
    title: ClassVar[str] = "MMMU-Pro"

    mode: Literal["direct", "cot"] = field(
        default="direct", metadata={"help": "direct, or cot: step by step, with longer answers"}
    )

    def __post_init__(self) -> None:
        if self.mode not in ("direct", "cot"):
            raise InputError(f"MMMU-Pro has no mode {self.mode!r}; it has direct and cot.")
        if self.mode == "cot":
            object.__setattr__(self, "new_tokens", LONG_ANSWER)

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The questions, configuration by configuration, in the order of the files."""
        return self._items(path, needs_images=True)

    def truths(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        return self._items(path, needs_images=False)

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """`fallback` in the detail: the letter drawn for an answer without one, which may be right by luck, as there.

        It is the same for an item in every run; the parser `strict` draws none.
        """
        known = choices.letters(len(item.about["options"]))
        if parser == "strict":
            letter = choices.strict_letter(response, known)
            return Verdict(item.id, letter, letter == item.truth)
        letter = official_letter(response, item.about["options"])
        if letter is not None:
            return Verdict(item.id, letter, letter == item.truth)
        drawn = random.Random(f"MMMU-Pro {item.about['id']}").choice(known)
        return Verdict(item.id, None, drawn == item.truth, {"fallback": drawn})

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """Accuracy over all questions, by subject, discipline and configuration; `chance` is that of guessing.

        odd: questions whose right letter is none of their options, which count as wrong, as in the script;
        accuracy_without_odd leaves them out.
        """
        judged = [item for item in items if item.id in judgements]
        plain = [item for item in judged if not _is_odd(item)]

        def by(key: str) -> dict[str, Any]:
            return {name: choices.figures(of, judgements) for name, of in choices.grouped(judged, key).items()}

        return {
            **choices.figures(judged, judgements),
            "unparsed": sum(judgements[item.id].parsed is None for item in judged),
            "missing": len(items) - len(judged),
            "odd": len(judged) - len(plain),
            "accuracy_without_odd": choices.figures(plain, judgements)["accuracy"],
            "chance": choices.mean(0 if _is_odd(item) else 1 / len(item.about["options"]) for item in judged),
            "subtasks": by("subject"),
            "disciplines": by("discipline"),
            "configs": by("config"),
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """One an item; the same question as text, with fewer options and as a picture is one draw."""
        return [
            Unit((item.id,), item.group, (float(judgements[item.id].right), 1.0), str(item.about["id"]))
            for item in items
            if item.id in judgements
        ]

    def oddities(self, items: Sequence[Item]) -> list[str]:
        """The released table has an item whose options are nested once more: one option, and B is right."""
        odd = [item for item in items if _is_odd(item)]
        if not odd:
            return []
        first = odd[0]
        which = f"{len(odd)} items have" if len(odd) > 1 else "1 item has"
        return [
            f"{which} a right letter that is none of the options, as the official files have it, and every answer is "
            f"wrong (accuracy_without_odd leaves such out); the first: {first.id}, {first.truth} of "
            f"{len(first.about['options'])}."
        ]

    def aliases(self, item: Item) -> tuple[str, ...]:
        return (str(item.about["id"]),)

    def read_answers(self, path: Path) -> list[dict[str, Any]] | None:
        """Official output with failed requests: where a response is an object, {"error": ...}, it counts as empty."""
        if not path.is_file():
            return None
        records = [line.value or {} for line in json_objects(path)]
        if not any("options" in record and isinstance(record.get("response"), dict) for record in records):
            return None
        failed = {"response": ""}
        return [record | failed if isinstance(record.get("response"), dict) else record for record in records]

    def items_of_answers(self, records: Sequence[Mapping[str, Any]]) -> list[Item | InvalidItem] | None:
        """Where the lines carry "options" and "answer", as the official inference scripts write them."""
        if not records or not all("options" in record and "answer" in record for record in records):
            return None
        if not any(name in record for record in records for name in ("text", *STRONG)):
            raise InputError('Line 1 of the answers holds a question of MMMU-Pro, and no "response" to it.')
        items: list[Item | InvalidItem] = []
        seen: dict[str, int] = {}
        for number, record in enumerate(records, start=1):
            made = self._item(source.Row(f"line {number}", record), "", needs_images=False)
            seen[made.id] = seen.get(made.id, 0) + 1
            if seen[made.id] > 1:
                made = replace(made, id=f"{made.id}/{seen[made.id]}")
            items.append(made)
        if all(isinstance(item, InvalidItem) for item in items):
            raise InputError(f"{_first_error(items).replace('line', 'Line', 1).replace(':', ' of the answers:', 1)}")
        return items

    def _items(self, path: Path | None, needs_images: bool) -> list[Item | InvalidItem]:
        wanted = choices.chosen(self.split, CONFIGS, "configuration of MMMU-Pro")
        if path is None:
            tables = [source.hub_table(HUB, config, "test", self.name) for config in wanted or ["vision"]]
        else:
            tables = _chosen_tables(source.read_tables(path, list(CONFIGS), "test"), wanted, path)
        items: list[Item | InvalidItem] = []
        seen: set[str] = set()
        for table in tables:
            prefix = f"{CONFIGS[table.config][0]}/" if len(tables) > 1 else ""
            for row in table.rows:
                made = self._item(row, table.config, needs_images)
                if isinstance(made, Item):
                    made = _renamed(made, f"{prefix}{made.id}", f"{prefix}{made.group}")
                if made.id in seen:
                    made = InvalidItem(
                        f"{made.id} ({row.where})", f"{row.where}: the id {made.id} stands before it too."
                    )
                seen.add(made.id)
                items.append(made)
        if all(isinstance(item, InvalidItem) for item in items):
            raise InputError(f"There is no question of MMMU-Pro to ask: {_first_error(items)}")
        return items

    def _item(self, row: source.Row | source.BadRow, config: str, needs_images: bool) -> Item | InvalidItem:
        if isinstance(row, source.BadRow):
            return InvalidItem(row.where, f"{row.where}: {row.error}.")
        number = id_text(row.values.get("id")) or row.where
        try:
            options = choices.options_of(row.values.get("options"))
            truth = str(row.values.get("answer") or "").strip()
            is_nested = len(options) == 1  # of the released table's one such item all options are within the first
            if truth not in choices.letters(26 if is_nested or not needs_images else len(options)):
                raise ValueError(f"the answer {truth[:20]!r} is no letter of its {len(options)} options")
            prompt, images = self._prompt(row, options, config, needs_images)
        except ValueError as error:
            return InvalidItem(number, f"{row.where}: {error}.")
        subject = str(row.values.get("subject") or subject_of(number))
        about = {
            "id": number,
            "options": options,
            "question": str(row.values.get("question") or ""),
            "subject": subject,
            "discipline": DISCIPLINE_OF.get(subject, ""),
            "config": config,
        }
        return Item(number, prompt, images, truth, subject, about)

    def _prompt(
        self, row: source.Row, options: Sequence[str], config: str, needs_images: bool
    ) -> tuple[str, tuple[ImageLike, ...]]:
        """The prompt with a marker for each `<image N>`, and the images in the markers' order, repeated as they are.

        Raises ValueError when an image is named that the row does not have.
        """
        is_vision = config == "vision"
        listed = zip(choices.letters(len(options)), options, strict=True)
        instruction = INSTRUCTIONS[self.mode, "vision" if is_vision else "standard"]
        values = {
            "question": choices.without_markers(str(row.values.get("question") or "")),
            "options": choices.without_markers("\n".join(f"{letter}. {option}" for letter, option in listed)),
            "instruction": instruction,
        }
        official = "{instruction}" if is_vision else "{question}\n{options}\n{instruction}"
        words = choices.worded(self.template or official, values, "" if is_vision else "question")
        if is_vision:
            if needs_images and "image" not in row.images:
                raise ValueError("there is no image")
            return _NAMED_IMAGE.sub(r"[image \1]", words), tuple(row.images.values())[:1]
        named = [f"image_{int(number)}" for number in _NAMED_IMAGE.findall(words)]
        absent = [name for name in named if name not in row.images]
        if needs_images and absent:
            raise ValueError(f"the question names {absent[0]}, and there is none")
        if absent or not named:
            return _NAMED_IMAGE.sub(r"[image \1]", words), tuple(row.images.values())
        return _NAMED_IMAGE.sub(IMAGE_MARKER, words), tuple(row.images[name] for name in named)


def _is_odd(item: Item) -> bool:
    """Whether the right letter is none of the options'."""
    return item.truth not in choices.letters(len(item.about["options"]))


_NAMED_IMAGE = re.compile(r"<image\s+(\d{1,3})>")


def _chosen_tables(tables: list[source.SourceTable], wanted: list[str], path: Path) -> list[source.SourceTable]:
    """The tables of the wanted configurations, those of unnamed files recognised by what they hold."""
    named: dict[str, list[source.Row | source.BadRow]] = {}
    for table in tables:
        alone = wanted[0] if len(wanted) == 1 and len(tables) == 1 else ""
        named.setdefault(table.config or alone or _config_of(table.rows), []).extend(table.rows)
    for config in wanted:
        if config not in named:
            raise InputError(f"{path} has no configuration {config!r} of MMMU-Pro; it has {', '.join(sorted(named))}.")
    kept = wanted or (["vision"] if "vision" in named else [config for config in CONFIGS if config in named])
    return [source.SourceTable(config, named[config]) for config in kept]


def _config_of(rows: Sequence[source.Row | source.BadRow]) -> str:
    whole = [row for row in rows if isinstance(row, source.Row)]
    if any("image" in row.images or "image" in row.values for row in whole):
        return "vision"
    most = max((_count(row.values.get("options")) for row in whole), default=0)
    return "standard (10 options)" if most > 4 else "standard (4 options)"


def _count(options: object) -> int:
    try:
        return len(choices.options_of(options))
    except ValueError:
        return 0


def _renamed(item: Item, name: str, group: str | None = None) -> Item:
    return Item(name, item.prompt, item.images, item.truth, item.group if group is None else group, item.about)


def _first_error(items: Sequence[Item | InvalidItem]) -> str:
    return next((item.error for item in items if isinstance(item, InvalidItem)), "the files are empty.")
