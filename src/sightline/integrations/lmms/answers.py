"""Answers to lmms-eval's requests, in batches: this needs no lmms-eval, only requests of its form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sightline.data.messages import IMAGE_MARKER
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.runs.ahead import TwoSteps
from sightline.runs.batches import Outcome
from sightline.runs.records import Records
from sightline.runs.runner import Arrangement, Condition, Runner

if TYPE_CHECKING:
    from sightline.methods.base import Method
    from sightline.models.vlm import VLM

NEW_TOKENS = 1024
"""An answer's longest length where a task does not say, as lmms-eval's own models have it."""

PASSED_ON = ("num_beams", "top_k", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "min_new_tokens")
"""Generation settings of a task that go to `generate` as they are; others than these, the length, sampling and `until`
are lmms-eval's own or another model's, and have no effect."""


@dataclass(frozen=True)
class AnswerRequest:
    """One question: its sample, how its answer is made, and the strings it ends before."""

    sample: Sample
    options: Mapping[str, Any]
    until: tuple[str, ...]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Requests of one kind can share a batch."""
        return (bool(self.sample.images), tuple(sorted((name, repr(value)) for name, value in self.options.items())))


def request_of(words: str, settings: Mapping[str, Any], visuals: Any, name: str) -> AnswerRequest:
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
    return AnswerRequest(Sample(words, tuple(flat), id=name), _options(settings), tuple(end for end in ends if end))


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


@dataclass(frozen=True)
class OpenRequest:
    """A request in its place among the others."""

    place: int
    request: AnswerRequest

    @property
    def id(self) -> str:
        """The place."""
        return str(self.place)


def answer_all(
    vlm: VLM,
    method: Method | None,
    requests: Sequence[AnswerRequest | None],
    batch_size: int,
    on_answer: Callable[[int, str], None],
    on_failure: Callable[[int, Exception], None],
) -> list[str]:
    """The answers, in the order of the requests; "" for one that is None or fails, which goes to `on_failure`.

    Long questions come first, so that memory runs short early; then a batch is halved. on_answer: called with the place
    and answer of each request as soon as it is there.
    """
    answers = [""] * len(requests)
    open_requests = [OpenRequest(place, request) for place, request in enumerate(requests) if request is not None]

    def prepare(batch: Sequence[OpenRequest]) -> Any:
        return vlm.prepare([each.request.sample for each in batch], allow_text_only=True)

    def attempt(batch: Sequence[OpenRequest], ready: Any) -> list[dict[str, Any]]:
        texts = _generated(vlm, method, ready, batch[0].request.options)
        return [{"text": _cut(text, each.request.until)} for each, text in zip(batch, texts, strict=True)]

    def keep(condition: Condition[OpenRequest], outcome: Outcome) -> str:
        place = int(outcome.id)
        if outcome.result is None:
            on_failure(place, outcome.error or InputError("There is no answer."))
        else:
            answers[place] = outcome.result["text"]
            on_answer(place, answers[place])
        return ""

    arrangement: Arrangement[OpenRequest] = Arrangement(
        batch_size, lambda each: len(each.request.sample.prompt), lambda each: each.request.kind
    )
    with Runner(Records(), raises=lambda error: not isinstance(error, InputError)) as runner:
        runner.work(open_requests, [Condition("", "none", TwoSteps(prepare, attempt))], arrangement, keep)
    return answers


def _generated(vlm: VLM, method: Method | None, ready: Any, options: Mapping[str, Any]) -> list[str]:
    inputs = vlm.encode(ready)
    with nullcontext() if method is None else method.on(vlm):
        answer = vlm.generate(inputs, **options)
    return [answer] if isinstance(answer, str) else list(answer)


def _cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of these strings."""
    return text[: min([text.find(end) for end in until if end in text], default=len(text))].strip()
