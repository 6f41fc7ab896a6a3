"""What one thread attaches to a model is that thread's: others are plain, have their own, or get one sentence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

import sightline
from families import BY_NAME
from sightline.errors import ModelError
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.pai import PAI
from sightline.methods.vcd import VCD
from sightline.probes.dominance import Dominance
from support.leftovers import state_of

LLAVA = BY_NAME["llava"]
FOUR = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    """What each work returned or raised, each in a thread of its own."""
    found: list[Any] = [None] * len(works)

    def run(number: int, work: Callable[[], Any]) -> None:
        try:
            found[number] = work()
        except Exception as error:  # handed to the test
            found[number] = error

    threads = [threading.Thread(target=run, args=item, name=f"worker-{item[0]}") for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.parametrize("method", [Dominance(), PAI(), VCD(), FasterVLM()], ids=lambda method: type(method).__name__)
def test_a_thread_without_anything_of_its_own_gets_one_sentence(method: Any) -> None:
    model, case = LLAVA.model(), LLAVA.make_inputs()
    plain, before = model.generate(**case.inputs, **FOUR), state_of(model)

    def run() -> Any:
        return model.generate(**case.inputs, **FOUR)

    def run_bypassed() -> Any:
        with sightline.bypassed(model):
            return model.generate(**case.inputs, **FOUR)

    with method.on(model):
        steered = model.generate(**case.inputs, **FOUR)
        refused, untouched = in_threads(run, run_bypassed)
        assert torch.equal(steered, model.generate(**case.inputs, **FOUR))
    assert isinstance(refused, ModelError)
    assert "worker-0" in str(refused)
    assert "MainThread" in str(refused)
    assert torch.equal(untouched, plain)
    assert torch.equal(in_threads(run)[0], plain)
    assert state_of(model) == before


def test_threads_with_probes_of_their_own_measure_what_they_would_alone() -> None:
    model = LLAVA.model()
    cases = [LLAVA.make_inputs(batch=batch) for batch in (1, 2, 3)]
    gate, before = threading.Barrier(len(cases)), state_of(model)

    def measured(case: Any, waits: bool) -> Any:
        with Dominance().on(model) as probe:
            if waits:
                gate.wait(60)
            for _ in range(3):
                model.generate(**case.inputs, **FOUR)
        return probe.result()

    alone = [measured(case, False) for case in cases]
    together = in_threads(*(lambda case=case: measured(case, True) for case in cases))  # type: ignore[misc]
    assert together == alone
    assert state_of(model) == before


def test_methods_that_end_in_another_order_than_they_began_leave_the_model_as_it_was() -> None:
    model, case = LLAVA.model(), LLAVA.make_inputs()
    plain, before = model.generate(**case.inputs, **FOUR), state_of(model)
    entered, left = threading.Event(), threading.Event()

    def outlives() -> Any:
        entered.wait(60)
        with VCD(alpha=2.0).on(model):
            first = model.generate(**case.inputs, **FOUR)
            left.set()
            closed.wait(60)
            return first, model.generate(**case.inputs, **FOUR)

    def leaves_first() -> Any:
        with VCD(alpha=1.0).on(model):
            entered.set()
            left.wait(60)
        closed.set()

    closed = threading.Event()
    (first, second), _ = in_threads(outlives, leaves_first)
    assert torch.equal(first, second)
    assert state_of(model) == before
    assert torch.equal(model.generate(**case.inputs, **FOUR), plain)


def test_a_model_that_keeps_its_last_prompt_is_one_threads_at_a_time() -> None:
    family = BY_NAME["qwen2_vl"]
    model = family.model()

    def enter() -> None:
        with Dominance().on(model):
            pass

    with Dominance().on(model):
        refused = in_threads(enter)[0]
    assert isinstance(refused, ModelError)
    assert "state of its last prompt" in str(refused)
    assert in_threads(enter)[0] is None
