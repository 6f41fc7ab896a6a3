"""Singulars within a closed vocabulary: only a word that ends in the vocabulary matters, so the rule can be exact."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import Literal

from sightline.errors import InputError

Singular = Literal["script", "plain", "nltk", "pattern"]
"""script: as the Python 3 CHAIR script in use, whose library (pattern) is not needed for it. plain: right English.
nltk, pattern: what the two scripts call, where these libraries are installed.
"""

SINGULARS: tuple[Singular, ...] = ("script", "plain", "nltk", "pattern")

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
"""Plurals that no ending shows; those of "man" go by their ending."""


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


# As the script -----------------------------------------------------------------------------------------------------

_SCRIPT_IRREGULAR = {
    "children": "child",
    "people": "person",
    "geese": "goose",
    "oxen": "ox",
    "kine": "cow",
    "feet": "foot",
    "teeth": "tooth",
    "leaves": "leaf",
    "loaves": "loaf",
    "moves": "move",
    "monies": "money",
    "axes": "axe",
    "sexes": "sex",
    "brethren": "brother",
    "mongooses": "mongoose",
    "octopodes": "octopus",
    "opera": "opus",
    "our": "my",
    "men": "man",
}
"""Endings: what stands before them stays ("policemen", "grandchildren", "gloves" of no such ending)."""

_SCRIPT_KEPT_IES = tuple(
    "auntie beanie birdie bogie bombie collie cookie cutie doggie eyrie freebie goonie groupie hankie hippie hoagie "
    "hottie indie junkie laddie laramie lingerie meanie newbie nightie oldie pixie quickie reverie rookie softie "
    "sortie stoolie techie toughie valkyrie veggie weenie yuppie zombie alergie".split()
)
"""Their plurals are left as they are, so that "collies" and "doggies" name nothing."""

_SCRIPT_UNCHANGED = tuple(
    "bison bream breeches britches carp chassis christmas clippers cod contretemps corps debris diabetes djinn eland "
    "elk flounder gallows georgia graffiti headquarters herpes high-jinks homework innings jackanapes mackerel measles "
    "mews mumps news pincers pliers proceedings rabies salmon scissors series shears species swine swiss trout tuna "
    "whiting wildebeest advice bread butter cheese electricity equipment fruit furniture garbage gravel happiness "
    "information ketchup knowledge love luggage mathematics mayonnaise meat mustard progress research rice sand "
    "software understanding water".split()
)
"""These, and every word that one of them ends in, are left as they are."""


def script_singularize() -> Singularize:
    """The singulars that CHAIR's Python 3 script makes, odd ones included, for every word that may name an object.

    It cuts the last s of singulars, too: "bus" becomes "bu" and "glass" "glas", so that a bus is found in its plural
    alone; "ties", "magpies" and "canoes" become "ty", "magpy" and "cano". Checked word by word against the script's
    library on the captions that POPE's repository releases.
    """
    return lambda tokens: [_script_singular(token) for token in tokens]


@lru_cache(maxsize=_MEMORY)
def _script_singular(word: str) -> str:
    if any(kept.endswith(word) for kept in _SCRIPT_UNCHANGED) or word.endswith(_KEPT_PLURALS):
        return word
    for plural, single in _SCRIPT_IRREGULAR.items():
        if word.endswith(plural):
            return word.removesuffix(plural) + single
    if word.startswith("oxen"):
        return "ox" + word[4:]
    if not word.endswith("s"):
        return _script_without_s(word)
    for end, cut, put in _SCRIPT_PLURALS:
        if end.search(word):
            return word[: len(word) - cut] + put
    return word[:-1]


def _script_without_s(word: str) -> str:
    """Plurals of Latin and of mice, and what only looks like one ("pasta", "spaghetti")."""
    if word.endswith(("mice", "lice")):
        return word[:-3] + "ouse"
    if len(word) > 2 and word.endswith("ae"):
        return word[:-1]
    if word.endswith(("ta", "ia")):
        return word[:-1] + "um"
    if re.search(r"[octpvir]i$", word):
        return word[:-1] + "us"
    return word[:-1] if word.endswith("eaux") and len(word) > 4 else word


_KEPT_PLURALS = tuple(f"{word}s" for word in _SCRIPT_KEPT_IES)

_SCRIPT_PLURALS: tuple[tuple[re.Pattern[str], int, str], ...] = tuple(
    (re.compile(end + "$"), cut, put)
    for end, cut, put in (
        (".itis", 0, ""),
        ("quizzes", 3, ""),
        ("matrices", 3, "x"),
        ("(?:ap|vert|ind)ices", 4, "ex"),
        ("(?:alias|status)es", 2, ""),
        ("(?:cris|ax|test)es", 2, "is"),
        ("shoes", 1, ""),
        ("oes", 2, ""),
        ("buses", 2, ""),
        ("(?:x|ch|ss|sh)es", 2, ""),
        ("movies", 1, ""),
        (".ombies", 1, ""),
        ("series", 0, ""),
        ("(?:[^aeiouy]|qu)ies", 3, "y"),
        ("(?:[aeo]l|[^d]ea|ar)ves", 3, "f"),
        ("erves", 1, ""),
        ("[nlw]ives", 3, "fe"),
        ("[lr]ves", 3, "f"),
        ("[aeo]ves", 1, ""),
        ("(?:si|ti|hi)ves", 1, ""),
        ("[^f]ves", 3, "fe"),
        ("(?:naly|ba|iagno|arenthe|rogno|ynop|the)ses", 2, "is"),
        (".opses", 2, "is"),
        (".yses", 2, "is"),
        ("(?:h|d|r|o|n|b|cl|p)oses", 1, ""),
        (".oses", 2, "is"),
        ("news", 0, ""),
    )
)
"""Endings in the order in which they are tried: how many letters go, and what comes in their place."""


def find_singularize(kind: str, vocabulary: Collection[str]) -> Singularize:
    """The rule of this name; InputError for an unknown one, and where its library or its data is not installed."""
    if kind == "plain":
        return plain_singularize(vocabulary)
    if kind == "script":
        return script_singularize()
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
