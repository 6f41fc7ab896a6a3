"""The tokenizer of all bundled models: whole words of the small world, and the special tokens of a family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sightline.zoo.questions import LETTERS, vocabulary

PUNCTUATION = tuple(".,?:;!()'-")


def word_tokenizer(
    special: Sequence[str], others: Sequence[str], unknown: str, start: str | None = None, **options: Any
) -> PreTrainedTokenizerFast:
    """Whole words, lower case, punctuation apart; option letters such as "(A)" are words of their own.

    special: special tokens, in the order of their ids. others: words and signs that the world's questions do not have,
    such as a chat template's. unknown: the special token of an unknown word. start: the one before every text, if any.
    options: for the tokenizer's class, such as its end token.
    """
    words = list(dict.fromkeys([*special, *PUNCTUATION, *others, *vocabulary()]))
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    capitals = [decoders.Replace(letter.lower(), letter) for letter in LETTERS]
    tokenizer.decoder = decoders.Sequence([*capitals, decoders.WordPiece(prefix="##", cleanup=True)])
    if start is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", pair=f"{start} $A $B", special_tokens=[(start, words.index(start))]
        )
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    # One token after lower-casing, written back as "(A)": an option letter never collides with the article "a".
    tokenizer.add_tokens([AddedToken(letter.lower(), normalized=True) for letter in LETTERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=unknown,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **options,
    )
