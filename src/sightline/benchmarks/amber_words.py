"""AMBER's descriptions: which words count, which of them are invented, and the script's rounded shares."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sightline.benchmarks.base import Item, Verdict
from sightline.benchmarks.chair_words import tokenize
from sightline.benchmarks.singular import plain_singularize
from sightline.errors import InputError

SMALL = 0.001
"""Where the script's counters begin, so that it never divides by zero."""


NEAR = 0.8
"""The script's threshold of similarity."""

VECTORS = "en_core_web_lg"


def percent(part: float, whole: float) -> float:
    """As the script: its counters begin at 0.001, and it goes on with percentages of one decimal."""
    return round(part / (whole + SMALL) * 100, 1)


@dataclass(frozen=True)
class WordLists:
    """relation.json (a word and what goes for it) and safe_words.txt; empty where a folder has none."""

    associations: Mapping[str, Sequence[str]]
    safe: frozenset[str]

    @staticmethod
    def read(folder: Path) -> WordLists:
        relation, safe = folder / "relation.json", folder / "safe_words.txt"
        if not relation.is_file():
            return WordLists({}, frozenset())
        try:
            found = json.loads(relation.read_text(encoding="utf-8"))
            words = safe.read_text(encoding="utf-8").split("\n") if safe.is_file() else []
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{relation} or safe_words.txt cannot be read ({type(error).__name__}).") from error
        if not isinstance(found, dict) or not all(isinstance(value, list) for value in found.values()):
            raise InputError(f"{relation} is no table of words: an object of a list a word is expected.")
        return WordLists(found, frozenset(words))

    def about(self, truth: Sequence[str], invented: Sequence[str]) -> dict[str, Any]:
        """For a description: which word stands for which true and which often invented one."""
        return {
            "covers": self._stands_for(truth),
            "invents": self._stands_for(invented),
            "safe": self.safe,
            "vocabulary": self.vocabulary,
            "invented_words": len(invented),
        }

    @property
    def vocabulary(self) -> frozenset[str]:
        return frozenset(self.associations) | {word for of in self.associations.values() for word in of}

    def _stands_for(self, words: Sequence[str]) -> dict[str, int]:
        """The place of the word that each counts for: associations first, in order, then the words themselves."""
        found: dict[str, int] = {}
        for place, word in enumerate(words):
            for other in self.associations.get(word, ()):
                found.setdefault(other, place)
        for place, word in enumerate(words):
            found.setdefault(word, place)
        return found


@lru_cache(maxsize=4)
def _singular(vocabulary: frozenset[str]) -> Any:
    return plain_singularize(vocabulary)


Near = Callable[[str, Iterable[str]], "str | None"]
"""The first of the words that lies near a noun; None where none does."""


@lru_cache(maxsize=1)
def near_by_vectors() -> Near:
    """By spaCy's large vectors, as the script: a cosine above 0.8. InputError where they are not installed."""
    try:
        import spacy

        language = spacy.load(VECTORS)
    except (ImportError, OSError) as error:
        raise InputError(
            f"similarity=vectors needs spaCy and its vectors (500 MB): pip install spacy, python -m spacy download "
            f"{VECTORS}; similarity=equal does without."
        ) from error

    @lru_cache(maxsize=100_000)
    def is_near(noun: str, word: str) -> bool:
        return float(language(noun).similarity(language(word))) > NEAR

    return lambda noun, words: next((word for word in words if is_near(noun, word)), None)


def judge_description(item: Item, response: str, near: Near = lambda noun, words: None) -> Verdict:
    """near: forgives a noun that lies near a true word, which it then covers; also counts as the often invented one."""
    about = item.about
    vocabulary = about["vocabulary"]
    words = [word for word in _singular(vocabulary)(tokenize(response.lower())) if word in vocabulary]
    listed = [word for word in words if word not in about["safe"]]
    covered = {about["covers"][word] for word in listed if word in about["covers"]}
    wrong, cognitive = [], set[int]()
    for word in (word for word in listed if word not in about["covers"]):
        known = near(word, about["invents"])
        cognitive |= {about["invents"][name] for name in (word, known) if name in about["invents"]}
        safe = near(word, about["covers"])
        if safe is None:
            wrong.append(word)
        else:
            covered.add(about["covers"][safe])
    detail = {
        "nouns": len(words),
        "invented": len(wrong),
        "invented_words": wrong,
        "covered": len(covered),
        "true": len(item.truth),
        "cognitive": len(cognitive),
        "often_invented": about["invented_words"],
    }
    is_empty = not any(character.isalnum() for character in response)
    return Verdict(item.id, None if is_empty else ", ".join(words), not wrong, detail)


def description_figures(verdicts: Sequence[Verdict]) -> dict[str, float | None]:
    """CHAIR, Cover, Hal and Cog as the script rounds them, as shares; None without a description."""
    if not verdicts:
        return dict.fromkeys(("chair", "cover", "hal", "cog"))

    def total(name: str) -> float:
        return float(sum(verdict.detail[name] for verdict in verdicts))

    quiet = sum(verdict.right for verdict in verdicts)
    return {
        "chair": percent(total("invented"), total("nouns")) / 100,
        "cover": percent(total("covered"), total("true")) / 100,
        "hal": round(100 - quiet / (len(verdicts) + SMALL) * 100, 1) / 100,
        "cog": percent(total("cognitive"), total("often_invented")) / 100,
    }
