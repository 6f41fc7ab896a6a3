"""What every method is: a frozen dataclass whose fields are its symbols, and `.on(model)`, a `with` in which it acts.

A method that the command line should know registers itself by name; its fields, with their help texts, are then the
fields of a spec such as `var:p=0.6,rho=0.5`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sightline.errors import InputError
from sightline.methods.numbers import check_numbers
from sightline.models import anatomy as anatomies
from sightline.models.entered import Entered
from sightline.plugins import Registry
from sightline.settings import setting as setting

if typing.TYPE_CHECKING:
    from sightline.attention.passes import LayoutSource
    from sightline.models.anatomy import Anatomy


@dataclass(frozen=True)
class Method:
    """Base of all methods. State lives in the context manager that `on` returns, never here."""

    name: ClassVar[str] = ""
    reads_only: ClassVar[bool] = False
    """Whether it leaves the model as it is, so that instruments run inside its `with` too."""

    def __init_subclass__(cls, **given: Any) -> None:
        """Numbers are checked before what a method does with its fields, whether or not it thinks of that.

        Its `with` is known of while it is entered.
        """
        super().__init_subclass__(**given)
        if "on" in vars(cls) and not cls.reads_only:
            cls.on = _noted(cls.on)  # type: ignore[method-assign]
        own = cls.__dict__.get("__post_init__")
        if own is None:
            return

        def checked(self: Method) -> None:
            check_numbers(self)
            own(self)

        cls.__post_init__ = checked  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        check_numbers(self)

    def on(self, model: Any, layout: LayoutSource | None = None) -> AbstractContextManager[Any]:
        """Act on a `VLM` or a bare Transformers model inside a `with`.

        layout: a `TokenLayout`, or a function from the forward's inputs to one; by default derived from the inputs.
        """
        raise InputError(f"{type(self).__name__} does not say how it acts on a model: define its `on`.")

    def require_complete(self) -> None:
        """InputError when something is missing that no default can fill in, before a model is loaded."""

    def spec(self) -> str:
        """The method as the command line writes it: its name, and the fields that differ from their defaults."""
        given = [
            f"{field.name}={_written(value)}"
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != _default(field)
        ]
        return self.name + (":" + ",".join(given) if given else "")


def _noted(on: Callable[..., AbstractContextManager[Any]]) -> Callable[..., AbstractContextManager[Any]]:
    """A method's `on`, whose `with` instruments know of."""

    @functools.wraps(on)
    def entered(self: Method, *args: Any, **options: Any) -> AbstractContextManager[Any]:
        return Entered(self.name or type(self).__name__, on(self, *args, **options))

    return entered


METHODS: Registry[type[Method]] = Registry(
    "method",
    "methods",
    "sightline.methods",
    {
        "adaptvis": "sightline.methods.adaptvis",
        "adhh": "sightline.methods.adhh",
        "avisc": "sightline.methods.avisc",
        "cdpruner": "sightline.methods.cdpruner",
        "cut_off": "sightline.methods.yes_bias",
        "deco": "sightline.methods.deco",
        "divprune": "sightline.methods.divprune",
        "dola": "sightline.methods.dola",
        "eah": "sightline.methods.eah",
        "fastervlm": "sightline.methods.fastervlm",
        "fastervlm_random": "sightline.methods.random_tokens",
        "fastv": "sightline.methods.fastv",
        "fastv_random": "sightline.methods.random_tokens",
        "grounding": "sightline.probes.grounding.scores",
        "icd": "sightline.methods.icd",
        "m3id": "sightline.methods.m3id",
        "mask_random": "sightline.methods.controls",
        "mask_sinks": "sightline.methods.controls",
        "memvr": "sightline.methods.memvr",
        "only": "sightline.methods.only",
        "opera": "sightline.methods.opera",
        "pai": "sightline.methods.pai",
        "projectaway": "sightline.methods.projectaway",
        "prune_random": "sightline.methods.random_tokens",
        "pyramiddrop": "sightline.methods.pyramiddrop",
        "registers": "sightline.methods.registers",
        "repeat": "sightline.methods.repeat",
        "sid": "sightline.methods.sid",
        "sparsevlm": "sightline.methods.sparsevlm",
        "spin": "sightline.methods.spin",
        "steer": "sightline.methods.steer",
        "vaf": "sightline.methods.vaf",
        "var": "sightline.methods.var",
        "var_random": "sightline.methods.controls",
        "vcd": "sightline.methods.vcd",
        "visionzip": "sightline.methods.visionzip",
        "vista": "sightline.methods.vista",
        "vti": "sightline.methods.steer",
        "yes_bias": "sightline.methods.yes_bias",
    },
)
"""The methods that the command line knows, by name; each module is imported when its method is looked up."""

EMPTY = "empty"
"""A list without entries in a spec, as the sink dimensions of a model that has none; `()` is read as one too."""


register = METHODS.register
"""Class decorator: let the command line know a method by its `name`."""


def anatomy_and_layout(model: Any, layout: LayoutSource | None) -> tuple[Anatomy, LayoutSource | None]:
    """The anatomy of what `.on` was given, and where layouts come from: a `VLM` brings its own."""
    known = getattr(model, "anatomy", None)
    if isinstance(known, anatomies.Anatomy):
        return known, layout if layout is not None else model.layout
    return anatomies.find_anatomy(model), layout


def parse_spec(spec: str, defaults: Mapping[str, Any] | None = None) -> Method | None:
    """The method that `name` or `name:field=value,field=value` stands for; None for `none`.

    Lists are written with `+`: `layers=2+3+4`; an empty one as `empty`. defaults: values of fields that the spec does
    not name, as a model's sink dimensions; a method without such a field does not take them.

    Raises:
        InputError: for an unknown name or field, and a value that the field can't take.
    """
    name, _, written = spec.strip().partition(":")
    if name == "none" and not written:
        return None
    METHODS.check(name, "none")
    kind = METHODS[name]
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {name: value for name, value in (defaults or {}).items() if name in fields}
    named: set[str] = set()
    for part in filter(None, (piece.strip() for piece in written.split(","))):
        key, equals, text = part.partition("=")
        if not equals:
            raise InputError(
                f"'{part}' in the method '{spec}' is no field=value pair; write for example {_example(kind)}, and "
                "lists as 2+3+4."
            )
        check_field(name, key, list(fields))
        if key in named:
            raise InputError(f"The field '{key}' is given twice in the method '{spec}': give it once.")
        named.add(key)
        values[key] = _read(text.strip(), hints[key], f"field '{key}' of the method {name}")
    return kind(**values)


def check_field(method: str, name: str, known: Sequence[str]) -> None:
    """InputError, with the fields there are, for a name that is none of them."""
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(
            f"The method {method} has no field '{name}'{meant}; its fields are {', '.join(known) or 'none'}."
        )


def _example(kind: type[Method]) -> str:
    field = next(iter(dataclasses.fields(kind)), None)
    return kind.name if field is None else f"{kind.name}:{field.name}={_written(_default(field))}"


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default is not dataclasses.MISSING else None


def _written(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "+".join(str(item) for item in value) or EMPTY
    return str(value)


def _read(text: str, hint: Any, where: str) -> Any:
    """A field's value from its text, by the field's type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in arguments:
            return None
        return _first_readable(text, [kind for kind in arguments if kind is not type(None)], where)
    if origin is Literal:
        if text not in arguments:
            raise InputError(f"'{text}' is no value for the {where}; use {' or '.join(map(str, arguments))}.")
        return text
    if origin is tuple:
        return () if text in (EMPTY, "()") else tuple(_read(item, arguments[0], where) for item in text.split("+"))
    return _scalar(text, hint, where)


def _first_readable(text: str, kinds: list[Any], where: str) -> Any:
    for index, kind in enumerate(kinds):
        try:
            return _read(text, kind, where)
        except InputError:
            if index == len(kinds) - 1:
                raise
    raise InputError(f"'{text}' is no value for the {where}.")


_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _scalar(text: str, kind: Any, where: str) -> Any:
    readers: dict[Any, tuple[Callable[[str], Any], str]] = {
        bool: (lambda word: _TRUTH[word.lower()], "true or false"),
        int: (int, "a whole number"),
        float: (_finite, "a number"),
        str: (str, "a word"),
    }
    reader, wanted = readers.get(kind, (str, "a word"))
    try:
        return reader(text)
    except (ValueError, KeyError):
        raise InputError(f"'{text}' is no value for the {where}; it takes {wanted}.") from None
