"""2,000 awkward answers a benchmark: each counts as by a plain second writing of the official rule."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator

import pytest

from benchmarks.awkward import AWKWARD
from sightline.benchmarks import Item, find_bench

WORDS = (
    "yes no Yes No YES NO not nope know A B C D a b (A) (B) (a) (b) A. B, A) answer Answer: option Option I "
    "dog the is it 1,000 2.5 3 one two three four five six é 是 🙂"
)
SIGNS = """. .. , ! ? ; : / - _ * ** ` ' " ( ) [ ] { } < > = + @ \\ $"""
PIECES = (
    *WORDS.split(), *SIGNS.split(), "answer is", "The answer is", "a dog", "red cat", "\n", "\n\n", "\t", "\r\n",
    "\u00a0", "\u200b",
)  # fmt: skip


def awkward_answers(count: int, seed: int) -> Iterator[str]:
    """Those of the list, then pieces put together with or without blanks."""
    rng = random.Random(seed)
    yield from AWKWARD
    for _ in range(count - len(AWKWARD)):
        pieces = rng.choices(PIECES, k=rng.choice((1, 2, 2, 3, 3, 4, 6, 9, 14)))
        yield "".join(piece + rng.choice((" ", " ", "", "  ")) for piece in pieces)[: rng.choice((None, -1))]


def pope(text: str) -> str:
    words = text.partition(".")[0].replace(",", "").split(" ")
    return "no" if any(word in words for word in ("No", "not", "no")) else "yes"


def mme(text: str) -> str | None:
    start = "".join(sign for _, sign in zip(range(4), text.lower(), strict=False))
    return "yes" if start.find("yes") >= 0 else "no" if start.find("no") >= 0 else None


def amber(text: str) -> str | None:
    return text.lower() if text in ("Yes", "No") else None


def hallusionbench(text: str) -> str | None:
    low = text.lower()
    digits = [sign.isdecimal() for sign in low]
    thousands = any(low[i] == "," and digits[i - 1] and digits[i + 1] for i in range(1, len(low) - 1))
    out = low
    for sign in (
        ";",
        "/",
        "[",
        "]",
        '"',
        "{",
        "}",
        "(",
        ")",
        "=",
        "+",
        "\\",
        "_",
        "-",
        ">",
        "<",
        "@",
        "`",
        ",",
        "?",
        "!",
    ):
        near = any(low[i : i + 2] in (sign + " ", " " + sign) for i in range(len(low)))
        out = out.replace(sign, "" if near or thousands else " ")
    kept, left = "", 32
    for i, sign in enumerate(out):
        is_beside = (i > 0 and out[i - 1].isdecimal()) or (i + 1 < len(out) and out[i + 1].isdecimal())
        if sign == "." and not is_beside and left:
            left -= 1
        else:
            kept += sign
    words = kept.split()
    return {(True, False): "yes", (False, True): "no"}.get(("yes" in words, "no" in words))


def _is_word_sign(sign: str) -> bool:
    return sign.isalnum() or sign == "_"


def _first_word(text: str, word: str) -> int:
    """Where a word stands alone first, -1 where nowhere; of no letter that changes its length in small letters."""
    low = "".join(sign.lower() if sign in string.ascii_letters else sign for sign in text)
    for i in range(len(low)):
        if low.startswith(word.lower(), i):
            before = i > 0 and _is_word_sign(low[i - 1])
            end = i + len(word)
            if not before and not (end < len(low) and _is_word_sign(low[end])):
                return i
    return -1


def naturalbench(first: str, second: str) -> Callable[[str], str | None]:
    def read(text: str) -> str | None:
        a, b = _first_word(text, first), _first_word(text, second)
        if a < 0 and b < 0:
            return None
        return first if b < 0 or (0 <= a < b) else second

    return read


def mmvp(text: str) -> str | None:
    """The five places in turn where a letter is taken, then the first sign."""
    low = "".join(sign.lower() if sign in string.ascii_letters else sign for sign in text.strip())
    body = low.removeprefix("(")
    if body[:1] in ("a", "b") and body[:1]:
        rest = body[1:].removeprefix(")")
        if rest.removeprefix(".").strip() == "" or rest[:1] == "." or rest[:1].isspace():
            return body[0].upper()
    for words in ("answer is", "option"):
        found = _after(low, words)
        if found:
            return found.upper()
    for i, sign in enumerate(low):
        if sign in ("a", "b") and (i + 1 == len(low) or low[i + 1].isspace()):
            return sign.upper()
        if sign in ("a", "b") and low[i + 1 : i + 2] == ")" and (i + 2 == len(low) or low[i + 2].isspace()):
            return sign.upper()
    return low[0].upper() if low[:1] in ("a", "b") and low else None


def _after(low: str, words: str) -> str | None:
    """The letter behind these words and blanks, in an opening bracket or not."""
    parts = words.split()
    for start in range(len(low)):
        at = start
        for number, part in enumerate(parts):
            if number:
                blanks = len(low[at:]) - len(low[at:].lstrip())
                if not blanks:
                    break
                at += blanks
            if not low.startswith(part, at):
                break
            at += len(part)
        else:
            rest = low[at:].lstrip()
            if len(rest) < len(low[at:]) and rest.removeprefix("(")[:1] in ("a", "b") and rest.removeprefix("("):
                return rest.removeprefix("(")[0]
    return None


def cv_bench(text: str) -> str | None:
    rest = text.strip()
    while rest and (rest[0] == "(" or rest[0].isspace()):
        rest = rest[1:]
    return rest[0].upper() if rest and rest[0] in string.ascii_letters else None


def blink(text: str) -> str | None:
    known = ["(A)", "(B)", "(C)"]
    if len(text) == 1 and text in "ABCDE":
        return f"({text})"
    if len(text) == 3 and text[0] + text[2] == "()" and text[1] in "ABCDE":
        return text
    for part in (text.split("\n\n")[-1], text):
        standing = [label for label in known if label in part.split()]
        if len(standing) == 1:
            return standing[0]
    return None


def mmmu_pro(text: str) -> str | None:
    """parse_multi_choice_response over red, cat, red cat; None where it draws."""
    options = {"A": "red", "B": "cat", "C": "red cat"}
    if "Answer:" in text:
        behind = [letter for letter in options if letter in text.split("Answer:")[-1]]
        if len(behind) == 1:
            return behind[0]
    for sign in ",.!?;:'":
        text = text.strip(sign)
    text = f" {text} "
    for shape, at in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        found = [letter for letter in options if shape.format(letter) in text]
        if found:
            places = [text.rfind(at.format(letter)) for letter in found]
            return found[places.index(max(places))]
    if len(text.split()) <= 5:
        return None
    found = [letter for letter, option in options.items() if option in text.lower()]
    places = [text.lower().rfind(options[letter]) for letter in found]
    return found[places.index(max(places))] if found else None


YES_NO = Item("1", "", truth="yes", about={"category": "VD", "figure_id": "1", "image": "1.jpg", "question": "?"})
RULES: dict[str, tuple[str, Item, Callable[[str], str | None]]] = {
    "pope": ("pope", YES_NO, pope),
    "repope": ("repope", YES_NO, pope),
    "mme": ("mme", YES_NO, mme),
    "amber": ("amber", Item("1", "", truth="yes", group="state", about={}), amber),
    "hallusionbench": ("hallusionbench", YES_NO, hallusionbench),
    "naturalbench yes_no": ("naturalbench", Item("1", "", truth="yes", group="yes_no"), naturalbench("yes", "no")),
    "naturalbench letters": ("naturalbench", Item("1", "", truth="A", group="multiple_choice"), naturalbench("A", "B")),
    "mmvp": ("mmvp", Item("1", "", truth="A"), mmvp),
    "cv-bench": ("cv-bench", Item("1", "", truth="A", about={"options": ["1", "2", "3"]}), cv_bench),
    "blink": ("blink", Item("1", "", truth="(A)", group="Counting", about={"choices": 3}), blink),
    "mmmu-pro": (
        "mmmu-pro",
        Item("1", "", truth="A", about={"id": "1", "options": ["red", "cat", "red cat"]}),
        mmmu_pro,
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_two_thousand_awkward_answers_count_as_the_official_rule_has_it(name: str) -> None:
    kind, item, rule = RULES[name]
    bench, read = find_bench(kind), 0
    for answer in awkward_answers(2000, seed=11):
        expected = rule(answer)
        verdict = bench.judge(item, answer)
        assert verdict.parsed == expected, answer
        if expected is not None:  # MMMU-Pro's drawn letter may be right without being read
            assert verdict.right == (expected == item.truth)
            read += 1
    assert read > 2  # of AMBER's exact words there are few
