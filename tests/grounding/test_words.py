"""Words and their tokens, under tokenizers of every kind: labels fall on the answer's words alone."""

from __future__ import annotations

import unicodedata
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.answer_words import content_words, is_content, letter_runs, word_fault
from sightline.models.answer_tokens import IGNORED, AnswerTurn, tail_tokens, turn_of

CORPUS = ["a red circle on the left of two dogs", "Describe the image. USER: ASSISTANT: yes no", "çà été naïve über"]
BEFORE = "USER: <image>\nWhat do you see? ASSISTANT:"
ANSWERS = st.text(st.sampled_from("a red Dog's cat, été 犬 🐕👩🏽‍🚀 नमस्ते שלום\t\n.!7-'’ﬁİ"), min_size=1, max_size=24)


@cache
def fast(kind: str) -> Any:
    """A tokenizer of a kind: byte-level BPE, words in pieces, or spaces as ▁."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", "<image>"]
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    elif kind == "pieces":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=["<image>"],
    )


@cache
def slow(kind: str) -> Any:
    """The same without offsets."""
    inner = fast(kind)

    class Slow:
        is_fast = False
        decode = staticmethod(lambda ids: inner.decode(ids, skip_special_tokens=False))

        def __call__(self, text: str, **options: Any) -> Any:
            return inner(text, **options)

    return Slow()


@pytest.mark.parametrize("make", [fast, slow], ids=["offsets", "decoded"])
@pytest.mark.parametrize("kind", ["bytes", "pieces", "spaces"])
def test_labelled_tokens_are_those_of_the_word(kind: str, make: Any) -> None:
    tokenizer, ending = make(kind), " two dogs on the left of été.</s>"
    tail = tail_tokens(tokenizer, BEFORE, ending)
    at = ending.index("dogs")
    labels = tail.labels([(at - 1, at + 3, 0)], 1)
    named = [token for token, label in zip(tail.ids, labels, strict=True) if label == 0]
    assert fast(kind).decode(named).replace(" ", "").lower() == "dogs"
    assert all(label in (0, IGNORED) for label in labels)
    assert labels[-1] == IGNORED  # the end token


@pytest.mark.parametrize("make", [fast, slow], ids=["offsets", "decoded"])
@pytest.mark.parametrize("kind", ["bytes", "pieces", "spaces"])
@settings(max_examples=30)
@given(answer=ANSWERS)
def test_the_tail_stands_at_the_end_and_labels_only_words(kind: str, make: Any, answer: str) -> None:
    tokenizer = make(kind)
    turn = AnswerTurn(" ", "</s>")
    ending = turn.ending(answer)
    tail = tail_tokens(tokenizer, BEFORE, ending)
    row = tokenizer(BEFORE + ending, add_special_tokens=False)["input_ids"]
    place = tail.place_in([*row, 2, 0, 0])
    assert place is not None
    # Of an answer of spaces alone the end token may be all that is left, and the one put behind it is its like.
    whole = [*row, 2] if list(tail.ids) == [2] and place == len(row) else row
    assert whole[place:] == list(tail.ids)
    labels = tail.labels(content_words(answer), len(turn.glue))
    assert len(labels) == len(tail.ids)
    for (start, end), label in zip(tail.spans, labels, strict=True):
        if label == IGNORED:
            continue
        assert start >= 0
        inside = answer[max(0, start - 1) : end - 1]
        assert any(unicodedata.category(character)[0] in "LM" for character in inside), (inside, answer)
    assert not any(label != IGNORED for label in tail.labels((), 1))


@settings(max_examples=40)
@given(answer=ANSWERS)
def test_bytes_with_and_without_offsets_agree(answer: str) -> None:
    words = content_words(answer)
    with_offsets = tail_tokens(fast("bytes"), BEFORE, f" {answer}</s>").labels(words, 1)
    decoded = tail_tokens(slow("bytes"), BEFORE, f" {answer}</s>").labels(words, 1)
    assert with_offsets == decoded


def test_a_character_of_several_tokens_is_labelled_whole() -> None:
    for make in (fast, slow):
        tail = tail_tokens(make("bytes"), BEFORE, " 犬</s>")
        labels = tail.labels([(0, 1, 1)], 1)
        dog = [token for token, label in zip(tail.ids, labels, strict=True) if label == 1]
        assert fast("bytes").decode(dog).strip() == "犬"
        assert len(dog) >= 3


def test_a_token_that_began_in_the_prompt_carries_no_label() -> None:
    tail = tail_tokens(fast("bytes"), "wha", "t dogs")  # a word cut in the middle
    labels = tail.labels([(0, 1, 1), (2, 6, 1)], 0)
    assert [label for (start, _), label in zip(tail.spans, labels, strict=True) if start < 0] in ([], [IGNORED])
    assert 1.0 in labels


def test_function_words_digits_and_punctuation_are_no_content() -> None:
    text = "There is a red dog's bowl, and 3 cats don't see the IMAGE of Čapek — 42!"
    said = [text[start:end] for start, end, label in content_words(text) if label == 1]
    assert said == ["red", "dog", "bowl", "cats", "see", "Čapek"]
    assert content_words("yes") == content_words("No.") == content_words("🐕 12:30") == ()
    assert is_content("dog")
    assert not is_content("THE")


@given(st.text(max_size=40))
def test_runs_are_of_letters_in_order(text: str) -> None:
    last = 0
    for start, end in letter_runs(text):
        assert last <= start < end <= len(text)
        assert unicodedata.category(text[start])[0] in "LM"
        last = end


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([[0, 1, 1], [2, 5, 0]], None),
        ([], None),
        (3, "no list"),
        ([[0, 1]], "word 1 is no"),
        ([[0, 1, True]], "word 1 is no"),
        ([["0", 1, 1]], "word 1 is no"),
        ([[0, 6, 1]], "characters 0 to 6 of an answer of 5"),
        ([[-1, 2, 1]], "characters -1 to 2"),
        ([[2, 2, 1]], "characters 2 to 2"),
        ([[0, 1, 2]], "has the label 2"),
        ([[0, 3, 1], [2, 4, 1]], "word 2 begins before"),
    ],
)
def test_faults_of_word_labels(words: Any, fault: str | None) -> None:
    found = word_fault(words, "a dog")
    assert found is None if fault is None else fault in (found or "")


LLAVA = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for p in m['content'] %}{{ p['text'] }}{% endfor %}"
    "{% if m['role'] == 'assistant' %}</s>{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def _processor(render: Any, template: str | None = "x") -> Any:
    return SimpleNamespace(
        chat_template=template, tokenizer=SimpleNamespace(eos_token="</s>"), apply_chat_template=render
    )


def test_turns_of_templates() -> None:
    def render(messages: Any, tokenize: bool = False, add_generation_prompt: bool = False) -> str:
        import jinja2

        return jinja2.Template(LLAVA).render(messages=messages, add_generation_prompt=add_generation_prompt)

    def thinking(messages: Any, tokenize: bool = False, add_generation_prompt: bool = False) -> str:
        said = "".join(f"<{m['role']}>\n{m['content'][0]['text']}<end>\n" for m in messages)
        return said + ("<assistant>\n<think>\n" if add_generation_prompt else "")

    def refusing(messages: Any, tokenize: bool = False, add_generation_prompt: bool = False) -> str:
        if len(messages) > 1:
            raise ValueError("one turn only")
        return "Question?"

    assert turn_of(_processor(render)) == AnswerTurn(" ", "</s>")
    assert turn_of(_processor(thinking)) == AnswerTurn("", "</s>")
    assert turn_of(_processor(refusing)) == AnswerTurn(" ", "</s>")
    assert turn_of(_processor(None, template=None)) == AnswerTurn(" ", "</s>")
