"""Good files and words spoiled by chance: a value of the wrong type, a name misspelt, bytes cut, flipped or recoded."""

from __future__ import annotations

import copy
import json
import string
from random import Random
from typing import Any

ESCAPES = "\x1b[2J\x1b]52;c;aGk=\x07"
"""Clears a terminal and writes its clipboard, where it reaches one raw."""

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 1.5, -0.0, 1e308, 2**63, 10**30, float("nan"), float("inf"),
    "", " ", "0", "-1", "nan", "none", "yes", "é" * 40, "a" * 5000, "a,b=c:d", "\ud800", "a\0b", ESCAPES + "x",
    "<image>", "<image><image>", "../..", "/", "/dev/null", "http://127.0.0.1/x.png", "data:image/png;base64,AAAA",
    "{}", "[", [], {}, [[]], [None], [1, 2], ["a", "b"], {"a": None}, {"": ""}, [{"role": "user"}],
    {"bytes": "x", "path": None},
)  # fmt: skip
SMALL: tuple[Any, ...] = (
    0,
    -1,
    3,
    1.5,
    4000,
    True,
    False,
    *(each for each in ODD if not isinstance(each, int | float)),
)
"""Without numbers that stand for the size of something and would fill the memory."""


def spoiled_value(rng: Random, value: Any, odd: tuple[Any, ...] = ODD) -> Any:
    """A copy of a JSON value with one thing in it another, left out, doubled, renamed or wrapped."""
    value = copy.deepcopy(value)
    places = [(holder, key) for holder, key in _places(value)]
    if not places or rng.random() < 0.05:
        return rng.choice(odd)
    holder, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[misspelt(rng, str(key))] = holder.pop(key)
    elif kind == 2:
        holder[key] = [holder[key]]
    elif kind == 3 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif kind == 4 and isinstance(holder[key], str):
        holder[key] = misspelt(rng, holder[key])
    else:
        holder[key] = rng.choice(odd)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def misspelt(rng: Random, word: str) -> str:
    """A word with one letter doubled, dropped, changed or put in."""
    place = rng.randrange(len(word) + 1)
    letter = rng.choice(string.ascii_letters + string.digits + " .,:=/-_\t\n\0é\u202e\U0001f469" + ESCAPES[0])
    return rng.choice((word[:place] + letter + word[place:], word[:place] + word[place + 1 :], word[:place] + letter))


def spoiled_bytes(rng: Random, content: bytes) -> bytes:
    """The bytes of a file, cut, flipped, recoded, or something else altogether."""
    kind = rng.randrange(10)
    place = rng.randrange(len(content) + 1)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return b""
    if kind == 2:
        return rng.randbytes(rng.randrange(1, 200))
    if kind == 3:
        return content.decode("utf-8", "replace").encode("utf-16", "surrogatepass")
    if kind == 4:
        return b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
    if kind == 5:
        return content[:place] + rng.randbytes(rng.randrange(1, 8)) + content[place:]
    if kind == 6:
        return rng.choice((b"[" * 100_000, b'{"a":' * 20_000, b"- " * 3_000, b"9" * 5_000, b"\0" * 500))
    if kind == 7:
        return content[place:] + content[:place]
    flipped = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        if flipped:
            flipped[rng.randrange(len(flipped))] = rng.randrange(256)
    return bytes(flipped)


def spoiled_json(rng: Random, value: Any, odd: tuple[Any, ...] = ODD) -> bytes:
    """The bytes of a JSON document in which something is wrong."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = spoiled_value(rng, value, odd)
    text = json.dumps(value)
    if rng.random() < 0.1:
        text = text.replace('"s1"', "9" * 5_000)
    content = text.encode("utf-8", "surrogatepass")
    return spoiled_bytes(rng, content) if rng.random() < 0.2 else content


def spoiled_lines(rng: Random, values: list[Any], odd: tuple[Any, ...] = ODD) -> bytes:
    """JSON lines, one or two of which are wrong."""
    lines = [json.dumps(value).encode() for value in values]
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(lines))
        lines[place] = spoiled_json(rng, values[place], odd)
    return b"\n".join(lines) + b"\n"


def spoiled_spec(rng: Random, spec: str) -> str:
    """Words of the command line, such as a method with its fields, with something wrong."""
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.randrange(5)
        if kind == 0:
            spec = misspelt(rng, spec)
        elif kind == 1:
            name, mark, _ = spec.rpartition("=")
            spec = f"{name}{mark}{odd_word(rng)}"
        elif kind == 2:
            spec = spec + rng.choice((",", ":", "=", ",a=1", ":layers=99", "," + spec, "=" + spec))
        elif kind == 3:
            spec = odd_word(rng)
        else:
            spec = spec.upper() if rng.random() < 0.3 else spec.replace("=", rng.choice(("", "==", ":", " = ")))
    return spec


def odd_word(rng: Random) -> str:
    """A word that hardly anything takes."""
    value = rng.choice(ODD)
    return value if isinstance(value, str) else json.dumps(value)
