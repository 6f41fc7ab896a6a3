"""Causal maps equal a whole eager pass for every edge, on every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attention.plain import eager_twin
from families import BY_NAME, EVERY, IMAGE, Family, str_of
from knockout.plain_impact import CAUSAL, assert_equal, farthest, padded, plain_maps, some_groups
from sightline.attention import attach, limit_block_bytes
from sightline.errors import InputError, ModelError
from sightline.knockout.maps import causal_maps, local_maps
from sightline.knockout.reader import read_row, read_tokens
from sightline.models.anatomy import find_anatomy
from sinks.planted import build_planted, planted_case
from support.leftovers import state_of


@pytest.mark.parametrize("family", EVERY, ids=str_of)
def test_maps_equal_whole_passes_on_every_family(family: Family) -> None:
    model, inputs = family.model(), family.make_inputs().inputs
    length = inputs["input_ids"].shape[1]
    groups = some_groups(length, length - 1)[1::2]
    plain = plain_maps(eager_twin(model), inputs, length - 1, groups)
    with read_row(model, inputs) as reader:
        ours = reader.local(groups, per_head=True) | reader.causal(groups)
        # The fast way is taken: no layer had to be run over the whole prompt.
        assert all(reader._rerun._is_exact.values())
    assert_equal(ours, plain, ("l2", "cosine", "l2_heads", *CAUSAL))
    assert bool(plain["l2"].nan_to_num().any())


WINDOWED = ["llava", "qwen3_vl", "qwen3_5", "gemma4", "llama4", "paligemma2"]


@pytest.mark.parametrize("name", WINDOWED)
def test_windows_rows_within_and_padding(name: str) -> None:
    model = BY_NAME[name].model()
    inputs = padded(BY_NAME[name].make_inputs().inputs, 3)
    row = inputs["input_ids"].shape[1] - 3
    groups = some_groups(row, row, first=3)
    plain = plain_maps(eager_twin(model), inputs, row, groups, window=3)
    assert_equal(causal_maps(model, inputs, None, groups, row=row, window=3), plain, CAUSAL)


@pytest.mark.parametrize("name", ["qwen3_vl", "gemma3", "qwen3_5"])
def test_a_row_within_the_image(name: str) -> None:
    """Where DeepStack adds features, and where image rows see each other, so that what a cut changes comes back."""
    family = BY_NAME[name]
    model, case = family.model(), family.make_inputs()
    row = case.modality[0].index(IMAGE) + 2
    groups = [(1,), (row - 1, row - 2), (row,)]
    plain = plain_maps(eager_twin(model), case.inputs, row, groups)
    ours = local_maps(model, case.inputs, None, groups, rows=row, per_head=True)
    assert_equal(ours, plain, ("l2", "cosine", "l2_heads"))
    assert_equal(causal_maps(model, case.inputs, None, groups, row=row), plain, CAUSAL)


@pytest.mark.parametrize("scope", ["row", "every-row"])
def test_too_little_memory_makes_blocks_smaller(scope: Any) -> None:
    model, inputs = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs().inputs
    groups = [(position,) for position in range(12)]
    wanted = causal_maps(model, inputs, None, groups, scope=scope)
    failures: list[int] = []

    def refuse(_: Any, args: Any) -> None:
        if len(args[0]) > 5:
            failures.append(len(args[0]))
            raise RuntimeError("CUDA out of memory")

    handle = find_anatomy(model).layers[2].register_forward_pre_hook(refuse)
    try:
        found = causal_maps(model, inputs, None, groups, scope=scope)
    finally:
        handle.remove()
    assert failures
    assert_equal(found, wanted, CAUSAL)


def test_a_reader_is_over_when_its_with_is_left() -> None:
    model, inputs = BY_NAME["llama"].model(), BY_NAME["llama"].make_inputs().inputs
    with read_row(model, inputs) as reader:
        pass
    with pytest.raises(InputError, match="inside the `with`"):
        reader.causal([(1,)])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(kind: torch.dtype) -> None:
    model = BY_NAME["qwen2_vl"].build()
    inputs = BY_NAME["qwen2_vl"].make_inputs().inputs
    groups = [(1,), (6, 7), (14,)]
    wanted = causal_maps(model, inputs, None, groups)
    model.to(kind)
    given = {name: value.to(kind) if value.is_floating_point() else value for name, value in inputs.items()}
    with read_row(model, given) as reader:
        found = reader.causal(groups)
        assert all(reader._rerun._is_exact.values())
    assert farthest(found["kl"], wanted["kl"]) < torch.finfo(kind).eps ** 0.5 * 4 + 1e-5


def test_an_even_window_reaches_up_and_one_wider_than_the_decoder_is_all_of_it() -> None:
    model, inputs = BY_NAME["llama"].model(), BY_NAME["llama"].make_inputs().inputs
    groups = [(2,), (3, 4)]
    for window in (2, 20):
        plain = plain_maps(eager_twin(model), inputs, 6, groups, window=window)
        assert_equal(causal_maps(model, inputs, None, groups, window=window), plain, CAUSAL)


def loud(model: Any) -> Any:
    """The model, queries of one layer so long that almost all of some heads' attention is on one key."""
    # In every layer, rounding would grow until the naive passes themselves are no longer exact.
    with torch.no_grad():
        find_anatomy(model).attentions[1].q_proj.weight.mul_(40)  # type: ignore[union-attr, operator]
    return model


@pytest.mark.parametrize("name", ["llama", "qwen2_vl", "mistral"])
def test_one_key_with_nearly_all_the_attention(name: str) -> None:
    model = loud(BY_NAME[name].build())
    inputs = BY_NAME[name].make_inputs().inputs
    row = inputs["input_ids"].shape[1] - 1
    with read_row(model, inputs) as reader:
        rows = [layer.row for layer in reader._rerun.capture.layers if layer.row is not None]
        weights = [attention._weights(attention._scores(attention.query[None])).flatten(0, 2) for attention in rows]
    assert max(float(layer.max()) for layer in weights) > 0.9999
    loudest = {attention.first + int(place) for attention, layer in zip(rows, weights, strict=True)
               for place in layer.argmax(-1)}  # fmt: skip
    groups = [*((position,) for position in sorted(loudest)[:3]), tuple(range(row))]
    plain = plain_maps(eager_twin(model), inputs, row, groups)
    ours = local_maps(model, inputs, None, groups, per_head=True) | causal_maps(model, inputs, None, groups)
    assert_equal(ours, plain, ("l2", "cosine", "l2_heads", *CAUSAL))


def test_planted_sinks() -> None:
    model, inputs = build_planted((5, 11)), planted_case().inputs
    row = inputs["input_ids"].shape[1] - 1
    groups = [(0,), (5,), (9,), (0, 5, 9), (7,)]
    plain = plain_maps(eager_twin(model), inputs, row, groups)
    ours = local_maps(model, inputs, None, groups, per_head=True) | causal_maps(model, inputs, None, groups)
    assert_equal(ours, plain, ("l2", "cosine", "l2_heads", *CAUSAL))


@pytest.mark.parametrize("name", ["llava", "gemma4", "qwen3_5"])
def test_small_blocks_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = BY_NAME[name].model(), BY_NAME[name].make_inputs().inputs
    length = inputs["input_ids"].shape[1]
    groups = [(position,) for position in range(length)]
    whole = causal_maps(model, inputs, None, groups)
    local = local_maps(model, inputs, None, groups)
    monkeypatch.setattr("sightline.knockout.rerun._FEWEST_ROWS", 7)
    monkeypatch.setattr("sightline.knockout.rerun._FEWEST_ANSWERS", 5)
    with limit_block_bytes(2000):
        assert_equal(causal_maps(model, inputs, None, groups), whole, CAUSAL)
        assert_equal(local_maps(model, inputs, None, groups), local, ("l2", "cosine"))


@pytest.mark.parametrize("name", ["llava", "gemma4", "qwen3_5"])
def test_a_layer_that_cannot_be_run_for_single_rows_is_run_whole(name: str) -> None:
    model, inputs = BY_NAME[name].model(), BY_NAME[name].make_inputs().inputs
    length = inputs["input_ids"].shape[1]
    groups = some_groups(length, length - 1)
    fast = causal_maps(model, inputs, None, groups)
    with read_row(model, inputs) as reader:
        reader._rerun.recapture()
        reader._rerun._is_exact = dict.fromkeys(range(1, reader.layers - 1), False)
        slow = reader.causal(groups)
    assert_equal(slow, fast, CAUSAL)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "qwen3_5", "gemma4", "mistral", "blip2"])
def test_each_token_of_an_answer_equals_a_prompt_that_ends_there(name: str) -> None:
    family = BY_NAME[name]
    model, inputs = family.model(), family.make_inputs().inputs
    length = inputs["input_ids"].shape[1]
    seen: list[Any] = []

    def visit(reader: Any) -> None:
        groups = [(2,), (length // 2, length - 1), (reader.row,)]
        seen.append((reader.inputs, groups, reader.causal(groups) | reader.local(groups), reader.predicted))

    tokens = read_tokens(model, inputs, 3, visit)
    assert tokens == [token for *_, token in seen]
    assert [step["input_ids"].shape[1] for step, *_ in seen] == list(range(length, length + len(tokens)))
    for step, groups, maps, _ in seen[1:]:
        again = causal_maps(model, step, None, groups) | local_maps(model, step, None, groups)
        assert_equal(maps, again, ("l2", "cosine", *CAUSAL))


def test_a_followed_token_and_the_baseline() -> None:
    model, inputs = BY_NAME["llama"].model(), BY_NAME["llama"].make_inputs().inputs
    with torch.no_grad():
        log = model(**inputs).logits[0, -1].log_softmax(0)
    found = causal_maps(model, inputs, None, [(1,)], target=9)
    assert found["baseline"]["token"] == 9
    assert found["baseline"]["logprob"] == pytest.approx(float(log[9]), abs=1e-5)
    assert found["baseline"]["prob"] == pytest.approx(float(log[9].exp()), rel=1e-4)
    assert causal_maps(model, inputs, None, [(1,)])["baseline"]["token"] == int(log.argmax())


def test_nothing_is_left_behind_also_after_an_exception() -> None:
    family = BY_NAME["qwen2_vl"]
    model, inputs = family.model(), family.make_inputs().inputs
    before, deltas = state_of(model), model.model.rope_deltas
    causal_maps(model, inputs, None, [(1,)])

    def fail(reader: Any) -> None:
        reader.causal([(1,)])
        raise KeyError("stop")

    with pytest.raises(KeyError):
        read_tokens(model, inputs, 3, fail)
    with pytest.raises(InputError), read_row(model, inputs) as reader:
        reader.causal([(99,)])
    assert state_of(model) == before
    assert not any("forward" in part.__dict__ for part in model.modules())
    assert model.model.rope_deltas is deltas


def test_what_is_lent_to_the_model_neither_sees_nor_changes_it() -> None:
    class Nosy:
        def begin(self, step: Any) -> None:
            raise AssertionError

        def edit(self, layer: int, call: Any, step: Any) -> None:
            raise AssertionError

    model, inputs = BY_NAME["llama"].model(), BY_NAME["llama"].make_inputs().inputs
    alone = causal_maps(model, inputs, None, [(1,)])
    with attach(find_anatomy(model), editor=Nosy()):
        beside = causal_maps(model, inputs, None, [(1,)])
    assert all(torch.equal(alone[name], beside[name]) for name in CAUSAL)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"groups": []}, "nothing to hide"),
        ({"groups": [()]}, "Source 0 has no positions"),
        ({"groups": [(5,)], "row": 4}, "Position 5 comes after row 4"),
        ({"groups": [(7,)]}, "no position 7 in a prompt of 7"),
        ({"groups": [(-1,)]}, "no position -1"),
        ({"row": 7}, "no row 7"),
        ({"row": "first"}, "'first' is no row"),
        ({"layers": [4]}, "no layer 4: the decoder has layers 0 to 3"),
        ({"layers": []}, "No layers are chosen"),
        ({"window": 0}, "window of 0"),
        ({"scope": "all"}, "no scope called 'all'"),
        ({"target": 5000}, "no token 5000"),
        ({"target": "yes"}, "'yes' is no target"),
    ],
)
def test_bad_input_is_one_sentence(changed: dict[str, Any], words: str) -> None:
    model, inputs = BY_NAME["llama"].model(), BY_NAME["llama"].make_inputs().inputs
    given = {"groups": [(1,)]} | changed
    with pytest.raises(InputError, match=words):
        causal_maps(model, inputs, None, **given)


def test_padding_and_batches_are_refused() -> None:
    model, inputs = BY_NAME["llama"].model(), padded(BY_NAME["llama"].make_inputs().inputs, 2)
    with pytest.raises(InputError, match="Position 1 is padding"):
        causal_maps(model, inputs, None, [(1,)])
    with pytest.raises(InputError, match="Row 0 is padding"):
        causal_maps(model, inputs, None, [(0,)], row=0)
    with pytest.raises(InputError, match="the inputs have 2"):
        causal_maps(model, BY_NAME["llama"].make_inputs(batch=2).inputs, None, [(1,)])
    with pytest.raises(InputError, match="neither input_ids nor"):
        causal_maps(model, {}, None, [(1,)])


def test_a_model_without_reachable_attention_is_refused() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(ModelError):
        causal_maps(model, {"input_ids": torch.ones((1, 4), dtype=torch.long)}, None, [(1,)])
