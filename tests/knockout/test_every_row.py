"""Sources hidden from every row equal whole eager passes."""

from __future__ import annotations

import pytest

from attention.plain import eager_twin
from families import BY_NAME
from knockout.plain_impact import CAUSAL, assert_equal, padded, plain_maps, some_groups
from sightline.attention import limit_block_bytes
from sightline.knockout.maps import causal_maps
from sightline.knockout.reader import ImpactReader, read_tokens


@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "qwen3_5", "gemma3", "gemma4", "mistral", "paligemma"])
def test_every_row_equals_whole_passes(name: str) -> None:
    model = BY_NAME[name].model()
    inputs = padded(BY_NAME[name].make_inputs().inputs, 2)
    row = inputs["input_ids"].shape[1] - 1
    groups = some_groups(row, row, first=2)[:3]
    plain = plain_maps(eager_twin(model), inputs, row, groups, window=2, every_row=True)
    with limit_block_bytes(100_000):
        ours = causal_maps(model, inputs, None, groups, window=2, scope="every-row")
    assert_equal(ours, plain, CAUSAL)


def test_the_row_itself_is_hidden_from_no_other() -> None:
    model, inputs = BY_NAME["llama"].model(), BY_NAME["llama"].make_inputs().inputs
    ours = causal_maps(model, inputs, None, [(6,)], scope="every-row")
    assert float(ours["logit"].abs().max()) < 1e-5


def test_every_row_of_a_generated_token() -> None:
    model, inputs = BY_NAME["qwen2_vl"].model(), BY_NAME["qwen2_vl"].make_inputs().inputs
    seen: list[tuple[ImpactReader, dict]] = []
    read_tokens(
        model, inputs, 2, lambda reader: seen.append((reader.inputs, reader.causal([(3,), (8, 9)], scope="every-row")))
    )
    step, maps = seen[1]
    assert_equal(maps, causal_maps(model, step, None, [(3,), (8, 9)], scope="every-row"), CAUSAL)
