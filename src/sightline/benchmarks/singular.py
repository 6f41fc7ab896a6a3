"""Singulars within a closed vocabulary: only a word that ends in the vocabulary matters, so the rule can be exact."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Literal

from sightline.errors import InputError

Singular = Literal["plain", "nltk", "pattern"]
"""plain: our own. nltk, pattern: what the two CHAIR scripts in use call, where these libraries are installed."""

SINGULARS: tuple[Singular, ...] = ("plain", "nltk", "pattern")

Singularize = Callable[[list[str]], list[str]]
"""The singulars of a caption's words, in their order."""

IRREGULAR: dict[str, str] = {
    "children": "child",
    "grandchildren": "grandchild",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "kine": "cow",
    "busses": "bus",
    "sports": "sport",
}
"""Plurals that no ending tells; those of "man" go by their ending."""


def plain_singularize(vocabulary: Collection[str]) -> Singularize:
    """The rule for these words: a word of the vocabulary stays, and a plural becomes the one it is the plural of."""
    words = frozenset(vocabulary)
    known: dict[str, str] = {}

    def singular(word: str) -> str:
        if word in IRREGULAR:
            return IRREGULAR[word]
        if word in words or len(word) < 3:
            return word
        return next((candidate for candidate in _candidates(word) if candidate in words), word)

    def singulars(tokens: list[str]) -> list[str]:
        for token in tokens:
            if token not in known and len(known) < _MEMORY:
                known[token] = singular(token)
        return [known[token] if token in known else singular(token) for token in tokens]

    return singulars


_MEMORY = 100_000
"""So many words are kept with their singulars, so that captions without end cannot fill the memory."""


def _candidates(word: str) -> Iterator[str]:
    """What a word may be the plural of, likelier ones first."""
    if word.endswith("men"):
        yield word[:-3] + "man"
    if not word.endswith("s"):
        return
    if word.endswith("ves"):
        yield word[:-3] + "f"
        yield word[:-3] + "fe"
    yield word[:-1]  # dogs, horses, vases, ties, canoes, gloves
    if word.endswith("ies"):
        yield word[:-3] + "y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        yield word[:-2]
    if word.endswith(("sses", "zzes")):
        yield word[:-3]


def find_singularize(kind: str, vocabulary: Collection[str]) -> Singularize:
    """The rule of this name; InputError for an unknown one, and where its library or its data is not installed."""
    if kind == "plain":
        return plain_singularize(vocabulary)
    if kind == "nltk":
        return _nltk_singularize()
    if kind == "pattern":
        return _pattern_singularize()
    raise InputError(f"There is no way named {kind!r} to make singulars; give {', '.join(SINGULARS)}.")


def _nltk_singularize() -> Singularize:
    """WordNet's lemma of each word as what the tagger takes it for, a noun where it cannot say."""
    try:
        from nltk import pos_tag
        from nltk.stem import WordNetLemmatizer
    except ImportError as error:
        raise InputError("singular=nltk needs the nltk library: pip install nltk.") from error
    lemmatize = WordNetLemmatizer().lemmatize
    parts = {"J": "a", "V": "v", "N": "n", "R": "r"}

    def singulars(tokens: list[str]) -> list[str]:
        return [lemmatize(word, parts.get(tag[:1], "n")) for word, tag in pos_tag(tokens)]

    try:
        singulars(["dogs"])
    except LookupError as error:
        raise InputError(
            "singular=nltk needs data of nltk that is not installed: "
            "python -m nltk.downloader wordnet averaged_perceptron_tagger_eng."
        ) from error
    return singulars


def _pattern_singularize() -> Singularize:
    try:
        from pattern.en import singularize
    except ImportError as error:
        raise InputError("singular=pattern needs the pattern library, of which pattern.en is part.") from error

    def singulars(tokens: list[str]) -> list[str]:
        return [singularize(word) for word in tokens]

    return singulars
