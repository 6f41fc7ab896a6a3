"""Words for objects, colours and numbers as captions write them: singular, plural, and their articles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from sightline.zoo.questions import PLURALS
from sightline.zoo.world import KINDS

_REGULAR = """
bicycle car motorcycle airplane train truck boat bird cat dog horse cow elephant bear zebra giraffe backpack umbrella
handbag tie suitcase frisbee snowboard kite skateboard surfboard bottle cup fork spoon bowl banana apple orange carrot
pizza donut cake chair bed toilet laptop remote keyboard microwave oven toaster sink refrigerator book clock vase
traffic_light fire_hydrant stop_sign parking_meter sports_ball baseball_bat baseball_glove tennis_racket hot_dog
potted_plant dining_table cell_phone teddy_bear hair_drier tv
"""
_IRREGULAR = """
person:people bus:buses bench:benches sheep:sheep wine_glass:wine_glasses knife:knives sandwich:sandwiches
couch:couches mouse:mice toothbrush:toothbrushes
"""
_UNCOUNTED = "broccoli scissors skis"
_OTHER = """
person:man:men person:woman:women person:boy:boys person:girl:girls person:child:children person:kid:kids
person:player:players person:lady:ladies person:guy:guys person:surfer:surfers person:skier:skiers person:rider:riders
person:baby:babies person:skateboarder:skateboarders person:snowboarder:snowboarders bicycle:bike:bikes
motorcycle:motorbike:motorbikes airplane:plane:planes airplane:jet:jets train:locomotive:locomotives car:taxi:taxis
car:suv:suvs truck:pickup:pickups boat:sailboat:sailboats boat:canoe:canoes bird:pigeon:pigeons bird:seagull:seagulls
bird:parrot:parrots cat:kitten:kittens dog:puppy:puppies cow:calf:calves horse:pony:ponies sheep:lamb:lambs
handbag:purse:purses couch:sofa:sofas tv:television:televisions dining_table:table:tables cell_phone:phone:phones
cell_phone:cellphone:cellphones cell_phone:smartphone:smartphones donut:doughnut:doughnuts tennis_racket:racket:rackets
tennis_racket:racquet:racquets laptop:computer:computers refrigerator:fridge:fridges oven:stove:stoves cup:mug:mugs
hair_drier:hair_dryer:hair_dryers sports_ball:ball:balls sports_ball:basketball:basketballs cake:cupcake:cupcakes
"""
_UNSURE = """
person:crowd:crowds person:someone:people person:batter:batters person:pitcher:pitchers airplane:aircraft:aircraft
boat:ship:ships bird:duck:ducks cow:bull:bulls cow:cattle:cattle backpack:bag:bags handbag:bag:bags suitcase:bag:bags
suitcase:luggage:luggage tv:monitor:monitors tv:screen:screens dining_table:desk:desks potted_plant:plant:plants
sports_ball:football:footballs baseball_bat:bat:bats baseball_glove:mitt:mitts baseball_glove:glove:gloves
wine_glass:glass:glasses cup:glass:glasses teddy_bear:teddy:teddies toilet:urinal:urinals fire_hydrant:hydrant:hydrants
frisbee:disc:discs knife:blade:blades book:magazine:magazines chair:stool:stools chair:seat:seats
skateboard:board:boards surfboard:board:boards snowboard:board:boards skis:ski:skis clock:watch:watches
bottle:wine:beer traffic_light:light:lights stop_sign:sign:signs potted_plant:flower:flowers vase:pot:pots
bowl:dish:dishes couch:loveseat:futon tie:necktie:neckties sandwich:burger:burgers teddy_bear:stuffed_animal:toys
"""
"""Words that may mean an object, or something else, or be a verb: they guard against true captions, and stay."""

COLOURS: tuple[str, ...] = tuple("red orange yellow green blue purple pink brown black white gray".split())
"""Colours that can stand in for each other; `grey` is read as gray."""

NUMBERS: tuple[str, ...] = tuple("one two three four five six seven eight nine ten".split())
"""Counts from 1 on."""


@dataclass(frozen=True)
class Noun:
    """A word for an object: the object's name, whether the word is plural, and whether it means nothing else."""

    name: str
    is_plural: bool
    is_certain: bool = True


@dataclass(frozen=True)
class Lexicon:
    """The objects of a kind of pictures.

    forms: of each name that may stand in for another its (singular, plural). words: every word that means an object,
    lower case, its synonyms too.
    """

    forms: dict[str, tuple[str, str]]
    words: dict[str, tuple[Noun, ...]]

    def mentions(self, text: str) -> list[tuple[int, int, tuple[Noun, ...]]]:
        """(start, end, what it may mean) of each object named in a text, the longest names first."""
        found = _pattern(tuple(self.words)).finditer(text)
        return [(match.start(), match.end(), self.words[_key(match[0])]) for match in found]

    def named(self, text: str) -> set[str]:
        """Names of all objects that a text may mention."""
        return {noun.name for _, _, nouns in self.mentions(text) for noun in nouns}


def _key(word: str) -> str:
    return " ".join(word.lower().split())


@lru_cache(maxsize=16)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    longest = sorted(words, key=len, reverse=True)
    written = "|".join(r"\s+".join(map(re.escape, word.split(" "))) for word in longest)
    return re.compile(rf"(?<![\w-])(?:{written})(?![\w-])", re.IGNORECASE)


def lexicon_of(pairs: dict[str, tuple[str, str]], others: dict[str, tuple[Noun, ...]] | None = None) -> Lexicon:
    """The lexicon of names with their (singular, plural), and other words beside them."""
    words: dict[str, tuple[Noun, ...]] = dict(others or {})
    for name, (singular, plural) in pairs.items():
        words[singular] = (*words.get(singular, ()), Noun(name, False))
        if plural != singular:
            words[plural] = (*words.get(plural, ()), Noun(name, True))
    return Lexicon(pairs, words)


@lru_cache(maxsize=1)
def coco_lexicon() -> Lexicon:
    """The 80 categories of COCO with their plurals, and common words for them that COCO's captions use."""
    pairs = {name: (name, f"{name}s") for name in map(_spaced, _REGULAR.split())}
    pairs |= {one: (one, many) for one, many in (_spaced(row).split(":") for row in _IRREGULAR.split())}
    others: dict[str, tuple[Noun, ...]] = {word: (Noun(word, True, False),) for word in _UNCOUNTED.split()}
    for rows, is_certain in ((_OTHER, True), (_UNSURE, False)):
        for row in rows.split():
            name, singular, plural = _spaced(row).split(":")
            for word, is_plural in {singular: False, plural: True}.items():
                others[word] = (*others.get(word, ()), Noun(name, is_plural, is_certain))
    return lexicon_of(pairs, others)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


@lru_cache(maxsize=1)
def shapes_lexicon() -> Lexicon:
    """The 25 kinds of object of the bundled world, as "red circle"."""
    return lexicon_of({kind.name: (kind.name, f"{kind.colour} {PLURALS[kind.shape]}") for kind in KINDS})


_AN = re.compile(
    r"(?!one\b|once\b|eu|ewe|u(?:ni(?!n)|s[aeiu]|t[ei]|rin|k))[aeiou]|hour|hono|heir",
    re.IGNORECASE,
)


def article(word: str) -> str:
    """ "an" before a vowel that is heard (an orange, an umbrella, an hour), "a" otherwise (a unicorn, a one, a ewe)."""
    return "an" if _AN.match(word) else "a"
