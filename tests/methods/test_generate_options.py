"""What `generate` is given beside a method: it works, or one sentence names the very option."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch

from families import BY_NAME
from methods.plain_decoding import GREEDY
from sightline.errors import InputError
from sightline.methods.base import parse_spec

OPTIONS: dict[str, Any] = {
    "guidance_scale": 2.0,
    "prompt_lookup_num_tokens": 3,
    "prefill_chunk_size": 4,
    "assistant_early_exit": 1,
    "assistant_model": True,
}


def given(batch: int = 1) -> tuple[Any, dict[str, Any]]:
    return BY_NAME["llava"].model(), dict(BY_NAME["llava"].make_inputs(batch, None).inputs)


def answered(specs: list[str], batch: int = 1, **options: Any) -> Any:
    model, inputs = given(batch)
    with ExitStack() as stack, torch.no_grad():
        for spec in specs:
            method = parse_spec(spec)
            assert method is not None
            stack.enter_context(method.on(model))
        return model.generate(**inputs, **GREEDY, **options)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("method", ["opera", "vcd", "m3id", "dola"])
def test_an_option_that_does_not_fit_is_named_and_no_other(method: str, option: str) -> None:
    value = given()[0] if option == "assistant_model" else OPTIONS[option]
    with pytest.raises(InputError) as found:
        answered([method], **{option: value})
    sentence = str(found.value)
    assert sentence.startswith(method)
    assert [name for name in OPTIONS if name in sentence] == [option]


@pytest.mark.parametrize("option", ["guidance_scale", "prefill_chunk_size"])
def test_an_option_that_changes_nothing_is_fine(option: str) -> None:
    value = {"guidance_scale": 1.0, "prefill_chunk_size": 4096}[option]
    assert torch.equal(answered(["vcd"], **{option: value}), answered(["vcd"]))


@pytest.mark.parametrize("other", ["vcd", "dola", "pai"])
def test_a_search_of_its_own_does_not_stand_beside_what_follows_one_pass_a_word(other: str) -> None:
    for specs in (["opera", other], [other, "opera"]):
        with pytest.raises(InputError, match=f"opera and {other} can't act together: .* enter one of them"):
            answered(specs)


def test_what_else_a_search_refuses() -> None:
    with pytest.raises(InputError, match="opera is entered twice"):
        answered(["opera", "opera"])
    for option, value in (("num_return_sequences", 2), ("custom_generate", print)):
        with pytest.raises(InputError, match=f"leave {option} out"):
            answered(["opera"], **{option: value})
    for shorter in ("fastv", "divprune:keep=2"):
        with pytest.raises(InputError, match="leave out the method that shortens the prompt"):
            answered(["opera:beams=1,candidates=2", shorter])
    with pytest.raises(
        InputError, match="one sample after the other, which vaf can't follow: give one prompt at a time"
    ):
        answered(["opera", "vaf"], batch=2)


def test_what_acts_on_each_pass_or_word_alone_stands_beside_a_search() -> None:
    for other in ("vaf", "memvr:threshold=0", "yes_bias:yes=7,no=8"):
        assert answered(["opera:beams=1,candidates=2", other]).shape[0] == 1


def test_a_search_streams_its_answer_in_one_piece() -> None:
    pieces: list[Any] = []
    answer = answered(["opera:beams=2,candidates=2"], streamer=_Streamer(pieces))
    prompt, words, end = pieces
    assert torch.equal(torch.cat([prompt[0], words]), answer[0])
    assert end == "end"


class _Streamer:
    def __init__(self, pieces: list[Any]) -> None:
        self._pieces = pieces

    def put(self, value: Any) -> None:
        self._pieces.append(value)

    def end(self) -> None:
        self._pieces.append("end")
