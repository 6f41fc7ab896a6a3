"""What stands in thinking tags is no answer, for no parser; and which shapes of real answers `strict` takes."""

from __future__ import annotations

import pytest

from sightline.benchmarks import find_bench
from sightline.benchmarks.base import Item
from sightline.benchmarks.blink import official_label
from sightline.benchmarks.choices import strict_letter
from sightline.benchmarks.mmmu_pro_rules import official_letter
from sightline.benchmarks.thinking import spoken
from sightline.benchmarks.yes_no import mme_official, pope_official, strict


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ("<think>(A)? No.</think>\n\nB", "B"), ("(A)? No.</think>B", "B"), ("<think>(A)? No", ""),
        ("<thinking>x</thinking>Yes", "Yes"), ("◁think▷no◁/think▷yes", "yes"), ("[THINK]no[/THINK]yes", "yes"),
        ("<think>a</think>b<think>c</think>d", "d"), ("<seed:think>no</seed:think>Yes", "Yes"),
        ("<|channel|>analysis<|message|>no?<|end|><|start|>assistant<|channel|>final<|message|>Yes", "Yes"),
        ("<think>x</think><answer> B </answer>", "B"), ("<|begin_of_box|>A<|end_of_box|>", "A"),
        ("I think so", "I think so"), ("  Yes ", "  Yes "), ("", ""), ("<b>Yes</b>", "<b>Yes</b>"),
    ],
)  # fmt: skip
def test_words_without_thinking(response: str, words: str) -> None:
    assert spoken(response) == words


@pytest.mark.parametrize("parser", ["official", "strict"])
def test_no_benchmark_reads_thinking(parser: str) -> None:
    item = Item("1", "", truth="no", about={"question_id": "1", "question": ""})
    for name in ("pope", "mme"):
        verdict = find_bench(name).verdict(item, "<think>Yes? I see no cat. Yes.</think>No", parser)  # type: ignore[arg-type]
        assert verdict.right
        cut = find_bench(name).verdict(item, "<think>There is a no", parser)  # type: ignore[arg-type]
        assert not cut.is_read


LETTERS = [  # answer, BLINK's official rule, MMMU-Pro's, strict
    ("<s> A", None, "A", "A"), ("A\u00a0", None, None, "A"), ("（A）", None, None, "A"), ("A.", None, "A", "A"),
    ("The answer is C.", None, "C", "C"), ("A is closer.", None, "A", "A"), ("option (A).", None, "A", "A"),
    ("(B), as it is", None, "B", "B"), ("**B**", None, None, "B"), ("**Answer:** C", None, "C", "C"),
    ("$\\boxed{B}$", None, None, "B"), ("\\boxed{\\text{D}}", None, None, "D"), ("Final answer: B", None, "B", "B"),
    ("C) cat", None, None, "C"), ("B</s>", None, None, "B"), ("<|im_start|>A<|im_end|>", None, None, "A"),
    ("A dog", None, "A", None), ("I think", None, None, None), ("(A) or (B)", None, "B", None),
    ("A B", None, "B", None),
    ("A is wrong", None, "A", None), ("not (A).", None, "A", None), ("A and B", None, "B", None),
    ("b", None, None, None),
    ("The answer is A dog", None, "A", None), ("Neither (A) nor (B)", None, "B", None), ("(E)", "(E)", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "blink", "pro", "said"), LETTERS)
def test_letters_of_real_answers(answer: str, blink: str | None, pro: str | None, said: str | None) -> None:
    assert official_label(answer, 4) == blink
    assert official_letter(answer, ["cat", "dog", "cow", "owl"]) == pro
    assert strict_letter(answer, "ABCD") == said


YES_NO = [  # answer, POPE's official rule, MME's, strict
    ("<s> Yes", "yes", None, "yes"), ("**No**", "yes", "no", "no"), ("Final answer: no", "no", None, "no"),
    ("\\boxed{No}", "yes", None, "no"), ("No\u00a0", "yes", "no", "no"), ("Ｎｏ", "yes", None, None),
    ("Nein.", "yes", None, None), ("Sí", "yes", None, None), ("не", "yes", None, None), ("是", "yes", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "pope", "mme", "said"), YES_NO)
def test_yes_and_no_of_real_answers(answer: str, pope: str, mme: str | None, said: str | None) -> None:
    assert (pope_official(answer), mme_official(answer), strict(answer)) == (pope, mme, said)
