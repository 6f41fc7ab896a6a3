"""False captions beside true ones: one object, attribute or count is swapped for another that the image does not hold.

    object     "a dog on a couch"     "a cat on a couch"       a cat is nowhere in the image
    attribute  "a red bus"            "a blue bus"             no caption of the image knows anything blue
    count      "two dogs"             "four dogs"              always more than are known: of four, two are there too

Each comes with word labels: the swapped words 0, the other content words 1. A stand-in object is drawn either among all
that are absent or among those that most often keep the company of what is there. A caption that might be true is never
made: what any caption of the image, or its annotated objects, mention is never put in.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sightline.data.lexicon import Lexicon, coco_lexicon
from sightline.data.shapes_truth import drawn_truth
from sightline.data.swaps import CoOccurrence, Truth, negative_of
from sightline.data.training_sample import TrainingData, TrainingSample, image_key
from sightline.errors import InputError

KINDS: tuple[str, ...] = ("object", "attribute", "count")


def make_negatives(
    data: TrainingData,
    *,
    kinds: Sequence[str] = KINDS,
    ratio: float = 1.0,
    together: float = 0.5,
    seed: int = 0,
) -> list[TrainingSample]:
    """The samples, a share of them with a false caption beside the true one.

    Args:
        kinds: which of KINDS; they take turns, as far as a caption has something of the kind.
        ratio: false captions for each true one, above 0, at most 1; samples are chosen at random.
        together: the share of stand-in objects that keep company with what is there; the others are any absent ones.
        seed: of everything drawn; a sample's negative depends on its own id, and not on the samples before it.

    Raises:
        InputError: for an unknown kind, or a share out of range.
    """
    _check(kinds, ratio, together)
    lexicon = coco_lexicon()
    present = {key: set(_objects_of(key, data, lexicon)) for key in data.captions}
    company = CoOccurrence.of(names for _, names in sorted(present.items()))
    order = sorted(data.samples, key=lambda sample: random.Random(f"{seed}/chosen/{sample.id}").random())
    used: Counter[str] = Counter()
    wanted = round(ratio * len(order))
    made: dict[str, TrainingSample] = {}
    plain: dict[str, TrainingSample] = {}
    for sample in order:
        drawn = drawn_truth(sample)
        if drawn is not None:  # these come with a false caption of another draw
            plain[sample.id] = replace(sample, words=None, negative=None, negative_words=None)
        if len(made) == wanted:
            continue
        key = image_key(sample)
        texts = (*data.captions.get(key, ()), sample.answer)
        truth, friends = drawn or (Truth(lexicon, _objects_of(key, data, lexicon), texts), company)
        rng = random.Random(f"{seed}/{sample.id}")
        turn = sorted(kinds, key=lambda kind: (used[kind], kinds.index(kind)))
        found = negative_of(sample.answer, truth, friends, turn, rng, together)
        if found is not None:
            kind, text, words = found
            used[kind] += 1
            made[sample.id] = replace(sample, words=sample.labelled, negative=text, negative_words=words)
    return [made.get(sample.id, plain.get(sample.id, sample)) for sample in data.samples]


def _check(kinds: Sequence[str], ratio: float, together: float) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise InputError(
            f"There is no kind of negative {', '.join(unknown) or 'given'}: give some of {', '.join(KINDS)}."
        )
    if not 0 < ratio <= 1:
        raise InputError(f"The ratio is {ratio}: give negatives for each caption, above 0 and at most 1.")
    if not 0 <= together <= 1:
        raise InputError(f"The share of stand-ins that keep company is {together}: give 0 to 1.")


def _objects_of(key: str, data: TrainingData, lexicon: Lexicon) -> dict[str, int]:
    """How many of each object are known to be in an image: annotated, or in a text; a plural is two."""
    found = dict(data.objects.get(key, {}))
    for text in data.captions.get(key, ()):
        for _, _, nouns in lexicon.mentions(text):
            for noun in nouns:
                found[noun.name] = max(found.get(noun.name, 0), 2 if noun.is_plural else 1)
    return found


# The bundled world ---------------------------------------------------------------------------------------------------
