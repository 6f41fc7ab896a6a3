"""Answers that models and people really give, and some that nobody should."""

from __future__ import annotations

from hypothesis import strategies

AWKWARD = (
    "", " ", "\n", "\t", "yes", "no", "Yes", "No", "YES", "NO", "Yes.", "No.", "yes,", "no,",
    "No, there is no dog.", "Yes!", "no!", "No!", "no?", "'no'", '"No"', "(no)", "*No*", "**Yes**",
    "No-one", "no one knows", "not", "Not", "NOT", "not.", "Nope", "nope.", "nah", "none", "None",
    "nothing", "cannot", "can't", "I do not see it", "I don't see it.", "unknown", "Know", "Norway", "snow",
    "yes no", "no yes", "Yes, no", "No, yes", "yes and no", "yes/no", "Yes or no?", "maybe", ".no", ". no",
    ".", "..", "Hm. No.", "Sure. no", "a.no", "yes.no", "The answer is no", "The answer is: No.",
    "Answer: yes", "There is no dog", "There is a dog.", "It is not yes", "no idea", "No idea.",
    "I have no idea", "  yes", "  no", " no", "no  ", "no\n", "no\r", "yes\nno", "No\nYes", "no\tyes",
    "\tno", ",no", "n,o", "N,o", "n,ot", "no\u00a0dog", "no\u200b", "\u200fno", "\u202eno", "لا", "نعم",
    "לא", "是", "不", "否", "🙂", "🙂 no", "no🙂", "нет", "да", "noo", "eyes", "Yesterday", "yess",
    "yes\u2028no", "\x00", "no\x00", "\x00no", "no\x00 no", "\ud800", "no \udfff", "İ", "Nİ no", "ﬀ no",
    "ＮＯ", "ｙｅｓ", "0", "1", "true", "false", "null", "nan", "[no]", '{"answer": "no"}', "no" * 50,
    "no " * 50, "yes " * 50, "." * 50, "x" * 5000 + " no", "x" * 5000 + ". no", "Yes, it is not there",
    "not, really", "no, no, no", "No. Yes.", "yes. no.", "y", "n", "Y", "N", "si", "oui", "non", "\ufeffno",
    "no.\ufeff", "Is there? no", "isn't: yes", "never, yes", "say yes",
)  # fmt: skip

words = strategies.sampled_from(
    [
        "yes",
        "no",
        "not",
        "No",
        "Yes",
        "NO",
        "dog",
        " ",
        "  ",
        ".",
        ",",
        "!",
        "\n",
        "\t",
        "'",
        "n't",
        "🙂",
        "لا",
        "\x00",
        "is",
        "a",
    ]
)
answers = strategies.one_of(
    strategies.sampled_from(AWKWARD),
    strategies.lists(words, max_size=12).map("".join),
    strategies.lists(words, max_size=8).map(" ".join),
    strategies.text(max_size=30),
)
