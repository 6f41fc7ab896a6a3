"""Answers to lmms-eval's requests, in batches: this needs no lmms-eval, only requests of its form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sightline.data.messages import IMAGE_MARKER
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.memory import is_out_of_memory

if TYPE_CHECKING:
    from sightline.methods.base import Method
    from sightline.models.vlm import VLM

NEW_TOKENS = 1024
"""An answer's longest length where a task does not say, as lmms-eval's own models have it."""

PASSED_ON = ("num_beams", "top_k", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "min_new_tokens")
"""Generation settings of a task that go to `generate` as they are; others than these, the length, sampling and `until`
are lmms-eval's own or another model's, and have no effect."""


@dataclass(frozen=True)
class Request:
    """One question: its sample, how its answer is made, and the strings it ends before."""

    sample: Sample
    options: Mapping[str, Any]
    until: tuple[str, ...]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Requests of one kind can share a batch."""
        return (bool(self.sample.images), tuple(sorted((name, repr(value)) for name, value in self.options.items())))


def request_of(words: str, settings: Mapping[str, Any], visuals: Any, name: str) -> Request:
    """A request of a task's words, its generation settings, and what its `doc_to_visual` gave.

    Raises InputError for an empty prompt, and for visuals that are no images.
    """
    flat = list(_flat(visuals))
    for visual in flat:
        if not hasattr(visual, "convert") and not isinstance(visual, bytes):
            raise InputError(
                f"Question {name} comes with {type(visual).__name__} instead of an image: Sightline answers questions "
                "about images in lmms-eval, not about video or sound."
            )
    if words.count(IMAGE_MARKER) not in (0, len(flat)):
        words = words.replace(IMAGE_MARKER, "")
    until = settings.get("until") or ()
    ends = (until,) if isinstance(until, str) else tuple(map(str, until))
    return Request(Sample(words, tuple(flat), id=name), _options(settings), tuple(end for end in ends if end))


def _flat(visuals: Any) -> Iterator[Any]:
    for visual in visuals if isinstance(visuals, list | tuple) else [] if visuals is None else [visuals]:
        if isinstance(visual, list | tuple):
            yield from _flat(visual)
        elif visual is not None:
            yield visual


def _options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `VLM.generate` takes. A temperature above 0 samples, unless `do_sample` says no."""
    options: dict[str, Any] = {name: settings[name] for name in PASSED_ON if settings.get(name) is not None}
    options["max_new_tokens"] = int(settings.get("max_new_tokens") or NEW_TOKENS)
    temperature = settings.get("temperature")
    if settings.get("do_sample", bool(temperature)) and temperature != 0:
        options["do_sample"] = True
        options.update({name: settings[name] for name in ("temperature", "top_p") if settings.get(name) is not None})
    return options


def answer_all(
    vlm: VLM,
    method: Method | None,
    requests: Sequence[Request | None],
    batch_size: int,
    told: Callable[[int, str], None],
    failed: Callable[[int, Exception], None],
) -> list[str]:
    """The answers, in the order of the requests; "" for one that is None or fails, which is told to `failed`.

    Long questions come first, so that memory runs short early; then a batch is halved. told: called with the place and
    answer of each request as soon as it is there.
    """
    answers = [""] * len(requests)
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for place, request in enumerate(requests):
        if request is not None:
            kinds.setdefault(request.kind, []).append(place)
    for places in kinds.values():
        places.sort(key=lambda place: -len(_at(requests, place).sample.prompt))
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            for place, answer in _answered(vlm, method, [(place, _at(requests, place)) for place in batch], failed):
                answers[place] = answer
                told(place, answer)
    return answers


def _at(requests: Sequence[Request | None], place: int) -> Request:
    request = requests[place]
    if request is None:
        raise InputError(f"There is no request {place}.")
    return request


def _answered(
    vlm: VLM, method: Method | None, batch: list[tuple[int, Request]], failed: Callable[[int, Exception], None]
) -> Iterator[tuple[int, str]]:
    requests = [request for _, request in batch]
    try:
        texts = _generated(vlm, method, requests)
    except Exception as error:
        if len(batch) == 1 and not isinstance(error, InputError):
            raise
        failure = error.with_traceback(None)
    else:
        for (place, request), text in zip(batch, texts, strict=True):
            yield place, _cut(text, request.until)
        return
    if len(batch) == 1:
        failed(batch[0][0], failure)
        return
    if is_out_of_memory(failure):
        _free_memory()
    # One bad question, or too little memory for all together: each half on its own.
    half = len(batch) // 2
    yield from _answered(vlm, method, batch[:half], failed)
    yield from _answered(vlm, method, batch[half:], failed)


def _generated(vlm: VLM, method: Method | None, requests: Sequence[Request]) -> list[str]:
    inputs = vlm.encode([request.sample for request in requests], allow_text_only=True)
    with nullcontext() if method is None else method.on(vlm):
        answer = vlm.generate(inputs, **requests[0].options)
    return [answer] if isinstance(answer, str) else list(answer)


def _cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of these strings."""
    return text[: min([text.find(end) for end in until if end in text], default=len(text))].strip()


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
