"""A model's answers: run to the end, with log-probabilities, or in pieces as they are written."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from sightline.errors import InputError
from sightline.models.vlm.generation import generate_options


@dataclass(frozen=True)
class Answer:
    """What a model says to one prompt.

    text      in words, without special tokens
    tokens    the ids of the new tokens, the end token included
    logprobs  the log-probability of each token among all, as decoding saw them: behind a method's changes and the
              settings of generation; None where decoding keeps no scores of its own (beams)
    seconds   that it took
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    seconds: float

    def __str__(self) -> str:
        return self.text


def run_generate(vlm: Any, inputs: Mapping[str, Any], max_new_tokens: int, options: Mapping[str, Any]) -> Any:
    """What the model's `generate` gives back."""
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens is {max_new_tokens}: give at least 1.")
    settings = generate_options(vlm.generation, options)
    if vlm.anatomy.pad_token_id is None and vlm.tokenizer is not None:
        settings.setdefault("pad_token_id", vlm.tokenizer.pad_token_id)
    try:
        with torch.no_grad():
            return vlm.model.generate(**inputs, max_new_tokens=max_new_tokens, **settings)
    except ValueError as error:
        if not vlm.generation:
            raise
        fields = ", ".join(f"{name}={value}" for name, value in vlm.generation.items())
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"Generation refuses its settings ({fields}): {reason}") from error


def answer_tokens(vlm: Any, inputs: Mapping[str, Any], output: Any) -> list[list[int]]:
    """The ids of the new tokens of each answer, from what `generate` gave back."""
    rows = getattr(output, "sequences", output)
    prompt = inputs["input_ids"]
    copies = len(rows) // len(prompt)
    if rows.shape[1] >= prompt.shape[1]:
        start = rows[:, : prompt.shape[1]]
        if torch.equal(start, prompt.repeat_interleave(copies, 0)):
            rows = rows[:, prompt.shape[1] :]
    return [_until_end(vlm, row) for row in rows.tolist()]


def _until_end(vlm: Any, row: list[int]) -> list[int]:
    ends = [place for place, token in enumerate(row) if token in vlm.anatomy.eos_token_ids]
    return row[: ends[0] + 1] if ends else row


def acting(method: Any, vlm: Any) -> Any:
    """The `with` in which a method acts; InputError for what is no method."""
    if method is None or method == "none":
        return nullcontext()
    if not hasattr(method, "on"):
        found = f"sightline.find_method({method!r})" if isinstance(method, str) else "sightline.VCD()"
        raise InputError(f"The method is {method!r}: give a method itself, such as {found}, or None.")
    return method.on(vlm)


def answer(vlm: Any, inputs: Any, method: Any, max_new_tokens: int, options: Mapping[str, Any]) -> Answer:
    """The answer to one encoded prompt."""
    if len(inputs["input_ids"]) != 1:
        raise InputError(f"One prompt is answered at a time, and {len(inputs['input_ids'])} are given: use generate.")
    start = time.perf_counter()
    kept = {"output_scores": True, "return_dict_in_generate": True}
    with acting(method, vlm):
        output = run_generate(vlm, inputs, max_new_tokens, {**options, **kept})
    seconds = time.perf_counter() - start
    tokens, *_ = answer_tokens(vlm, inputs, output)
    return Answer(vlm.text_of(tokens), tuple(tokens), _logprobs(output, tokens), seconds)


def _logprobs(output: Any, tokens: list[int]) -> tuple[float, ...] | None:
    scores = getattr(output, "scores", None)
    if not scores or len(scores) < len(tokens) or getattr(output, "sequences_scores", None) is not None:
        return None
    return tuple(float(step[0].float().log_softmax(-1)[token]) for step, token in zip(scores, tokens, strict=False))


class _Stopped(Exception):
    """The reader of a stream went away."""


class _Pieces:
    """What `generate` hands each new token to: words go on as soon as they are whole."""

    def __init__(self, vlm: Any, out: queue.Queue[Any]) -> None:
        self._vlm, self._out = vlm, out
        self._tokens: list[int] = []
        self._written = 0
        self._is_prompt = True
        self.is_closed = threading.Event()

    def put(self, value: Any) -> None:
        """Take the prompt, then one token a call."""
        if self.is_closed.is_set():
            raise _Stopped
        if self._is_prompt:
            self._is_prompt = False
            return
        self._tokens += value.reshape(-1).tolist()
        text = self._text()
        if not text.endswith("\ufffd"):  # a letter whose other bytes are still to come
            self._hand_on(text.rstrip())

    def end(self) -> None:
        """Hand on what is left."""
        self._hand_on(self._text().rstrip())

    def _text(self) -> str:
        return str(self._vlm.tokenizer.decode(self._tokens, skip_special_tokens=True)).lstrip()

    def _hand_on(self, text: str) -> None:
        if len(text) > self._written:
            self._out.put(text[self._written :])
            self._written = len(text)


def stream(vlm: Any, inputs: Any, method: Any, max_new_tokens: int, options: Mapping[str, Any]) -> Iterator[str]:
    """The answer to one encoded prompt in pieces; together they are its text."""
    if len(inputs["input_ids"]) != 1:
        raise InputError(f"One answer is streamed at a time, and {len(inputs['input_ids'])} prompts are given.")
    if options.get("num_beams", 1) != 1 or options.get("num_return_sequences", 1) != 1:
        raise InputError(
            "Beams and several sequences cannot be streamed: leave num_beams and num_return_sequences out."
        )
    vlm.require_processor("write words: give generate_tokens")
    return _streamed(vlm, inputs, method, max_new_tokens, options)


def _streamed(vlm: Any, inputs: Any, method: Any, max_new_tokens: int, options: Mapping[str, Any]) -> Iterator[str]:
    out: queue.Queue[Any] = queue.Queue()
    pieces = _Pieces(vlm, out)

    def work() -> None:
        try:
            with acting(method, vlm):
                run_generate(vlm, inputs, max_new_tokens, {**options, "streamer": pieces})
        except _Stopped:
            pass
        except BaseException as error:
            out.put(error)
        finally:
            out.put(None)

    thread = threading.Thread(target=work, name="sightline-stream", daemon=True)
    thread.start()
    try:
        while (piece := out.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        pieces.is_closed.set()
        thread.join()
