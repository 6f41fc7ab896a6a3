"""Maps equal eager attention, word by word and head by head; what is kept of them is what was read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attention.plain import eager_twin
from families import BY_NAME, PADDING, TEXT
from sightline.models.anatomy import find_anatomy
from sightline.probes import attention_maps as maps
from sightline.probes import map_columns
from sightline.probes.dominance import SampleMaps, read_maps
from sightline.probes.map_values import pack, unpack
from sightline.probes.sinks import Sinks

WORDS = 3
GENERATE = {"max_new_tokens": WORDS, "min_new_tokens": WORDS, "do_sample": False}
BATCH = 2


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def read(request: pytest.FixtureRequest) -> tuple[Any, Any, list[SampleMaps], Any]:
    """(model, case, maps, eager attention by step, layer) of a padded batch."""
    family = BY_NAME[request.param]
    case, model = family.make_inputs(batch=BATCH, padding="left"), family.model()
    with torch.no_grad(), read_maps(model, case.inputs) as reader:
        model.generate(**case.inputs, **GENERATE)
        found = reader.maps([WORDS] * BATCH)
    with torch.no_grad():
        twin = eager_twin(model)
        plain = twin.generate(**case.inputs, **GENERATE, output_attentions=True, return_dict_in_generate=True)
    return model, case, found, plain.attentions


def test_words_and_patches_have_the_weights_of_eager_attention(read: Any) -> None:
    model, case, found, plain = read
    assert len(found) == BATCH
    for sample, told in enumerate(found):
        kinds = np.array(case.modality[sample])
        assert told.layers == find_anatomy(model).attention_layers
        assert list(told.positions) == np.flatnonzero(kinds == TEXT).tolist()
        patches = np.flatnonzero((kinds != TEXT) & (kinds != PADDING))
        assert sum(int((grid.cells >= 0).sum()) for grid in told.grids) == len(patches)
        columns = [*told.positions, *patches.tolist()]
        order = np.concatenate([np.arange(len(told.positions)), *(grid.cells.ravel() for grid in told.grids)])
        for word in range(WORDS):
            for place in range(len(told.layers)):
                row = plain[word][place][sample, :, -1].float()
                np.testing.assert_allclose(told.mean[word, place][order], row.mean(0)[columns].numpy(), atol=2e-5)
                assert told.heads is not None
                cells = np.concatenate([grid.cells.ravel() for grid in told.head_grids])
                np.testing.assert_allclose(told.heads[word, place][:, cells], row[:, patches].numpy(), atol=1e-3)


def test_a_document_gives_back_what_was_read(read: Any) -> None:
    for told in read[2]:
        again = SampleMaps.from_dict(told.to_dict())
        assert again.positions == told.positions
        assert again.layers == told.layers
        assert [grid.cells.tolist() for grid in again.grids] == [grid.cells.tolist() for grid in told.grids]
        assert (again.sinks == told.sinks).all()
        np.testing.assert_allclose(np.sqrt(again.mean), np.sqrt(told.mean), atol=1 / 255)
        assert told.heads is not None
        assert again.heads is not None
        assert again.heads.shape == told.heads.shape


def test_many_patches_are_summed_and_few_heads_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(), family.model()

    def run() -> SampleMaps:
        with torch.no_grad(), read_maps(model, case.inputs) as reader:
            model.generate(**case.inputs, **GENERATE)
            return reader.maps([WORDS])[0]

    whole = run()
    monkeypatch.setattr(map_columns, "MOST_PATCHES", 4)
    monkeypatch.setattr(maps, "MOST_BY_WORD", 1)
    monkeypatch.setattr(map_columns, "MOST_TEXT", 10)
    pooled = run()
    (before,), (after,) = whole.grids, pooled.grids
    assert after.pooled == 2
    rows, columns = before.cells.shape
    assert after.cells.shape == ((rows + 1) // 2, (columns + 1) // 2)
    for row in range(after.cells.shape[0]):
        for column in range(after.cells.shape[1]):
            square = before.cells[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel()
            np.testing.assert_allclose(
                pooled.mean[:, :, after.cells[row, column]], whole.mean[:, :, square].sum(-1), rtol=1e-4
            )
    assert whole.heads is not None
    assert pooled.heads is not None
    np.testing.assert_allclose(pooled.heads[0], whole.heads.mean(0), atol=1e-3)
    assert pooled.positions == whole.positions if len(whole.positions) <= 10 else len(pooled.positions) == 10


def test_sinks_are_marked_where_the_watch_marks_them() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(), family.model()
    everything = Sinks("llava", (0,), 1e-6)
    with torch.no_grad(), read_maps(model, case.inputs, sinks=everything) as reader:
        model.generate(**case.inputs, **GENERATE)
        (told,) = reader.maps([WORDS])
    assert told.has_sinks
    assert told.sinks[:2].sum() == 2, "BOS alone in layers 0 and 1"
    assert told.sinks[2:].all()


def test_nothing_is_left_on_the_model() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(), family.model()
    with torch.no_grad():
        before = model(**case.inputs).logits
        with read_maps(model, case.inputs) as reader:
            assert torch.equal(model(**case.inputs).logits, before)
        assert reader.maps([1])[0].mean.shape[0] == 1
        assert torch.equal(model(**case.inputs).logits, before)


@given(arrays.arrays(np.float32, st.tuples(*[st.integers(1, 4)] * 3), elements=st.floats(0, 1, width=32)))
def test_packing_keeps_zero_the_largest_and_the_order(values: np.ndarray) -> None:
    again = unpack(pack(values, 1))
    assert again.shape == values.shape
    largest = values.max(-1, keepdims=True)
    assert np.allclose(again.max(-1, keepdims=True), largest, rtol=1e-5)
    assert (again[values == 0] == 0).all()
    assert (np.abs(np.sqrt(again) - np.sqrt(values)) <= np.sqrt(largest) / 255 * 0.51 + 1e-6).all()


def test_torn_bytes_are_told() -> None:
    told = pack(np.ones((1, 1, 4), dtype=np.float32), 1)
    with pytest.raises(ValueError, match=r"cannot be read|Error|padding"):
        unpack(told | {"bytes": told["bytes"][:8]})
