"""What Transformers may rename stands in one folder, and what its files do not know is one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DynamicCache

import sightline
from sightline.errors import ModelError
from sightline.models.caches import has_same_start, set_output
from sightline.models.transformers_api import attention as api
from sightline.models.transformers_api.cache import (
    CACHE_NAMES,
    cache_from,
    cache_of,
    select_rows,
    with_cache,
    without_cache,
)
from sightline.models.transformers_api.release import NEWEST, OLDEST, release_warning

PRIVATE = re.compile(
    r"_attn_implementation|ALL_ATTENTION_FUNCTIONS|ALL_MASK|AttentionInterface|get_interface|masking_utils"
    r"|past_key_values|mm_encoder_outputs|(Dynamic|Static|Hybrid|Sliding\w*|EncoderDecoder)Cache|rope_deltas"
    r"|_model_mapping|_commit_hash|_gradient_checkpointing_func|PROCESSOR_MAPPING|ProcessorMixin|modeling_utils"
    r"|cache_utils|image_processing_utils|trainer_callback|generate_batch|prompt_lookup_num_tokens=|use_mtp"
    r"|eager_attention_forward|transformers\.models\b"
)
"""Names of Transformers that are private, or that one of its releases has renamed or may rename."""


def test_names_that_may_be_renamed_stand_in_one_folder() -> None:
    root = Path(sightline.__file__).parent
    files = [path for path in root.rglob("*.py") if "transformers_api" not in path.parts]
    assert len(files) > 100
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PRIVATE.search(line)
    ]
    assert not found, "\n".join(found)
    assert PRIVATE.search(Path(api.__file__).read_text())


def test_hooks_are_installed_in_one_place() -> None:
    root = Path(sightline.__file__).parent
    calls = re.compile(r"register_\w*forward\w*hook|register_full_backward|open_attention_door|\.generate = ")
    homes = {"attention/hooks.py", "attention/ownership.py", "models/transformers_api/attention.py"}
    found = {
        str(path.relative_to(root)): line.strip()
        for path in root.rglob("*.py")
        for line in path.read_text().splitlines()
        if calls.search(line) and str(path.relative_to(root)) not in homes
    }
    assert not found


class Takes(nn.Module):
    """A forward that takes its cache by a name of its own."""

    def forward(self, input_ids: Any = None, memory: Any = None) -> Any:
        return input_ids, memory


def test_a_cache_is_found_under_each_known_name_and_refused_under_another() -> None:
    from transformers import DynamicCache

    cache = DynamicCache()
    for name in CACHE_NAMES:
        assert cache_of({"input_ids": 1, name: cache}) is cache
        assert without_cache({"input_ids": 1, name: cache}) == {"input_ids": 1}
    assert cache_of({"input_ids": 1}) is None
    with pytest.raises(ModelError, match="takes its cache as 'memory'"):
        cache_of({"memory": cache})
    with pytest.raises(ModelError, match="takes its cache as neither"):
        with_cache({}, cache, Takes())


class Answers(dict[str, Any]):
    """An output as 5.24 has it: being asked for a name it no longer has brings a warning on the screen."""

    def __contains__(self, name: object) -> bool:
        raise AssertionError(f"asked for {name}")

    __getattr__ = __contains__  # type: ignore[assignment]


def test_an_output_is_never_asked_for_a_name_it_does_not_have() -> None:
    for name in CACHE_NAMES:
        output = Answers({name: 1, "logits": 2})
        assert cache_from(output) == 1
        set_output(output, torch.zeros(1), 3)
        assert cache_from(output) == 3
    assert cache_from(Answers(logits=2)) is None


def test_a_release_that_was_not_tested_is_one_sentence() -> None:
    oldest, newest = (".".join(map(str, minor)) for minor in (OLDEST, NEWEST))
    assert release_warning(f"{oldest}.0") is None
    assert release_warning(f"{newest}.3") is None
    assert release_warning() is None, "the release that the tests run on is one that was tested"
    for release in ("5.0.0", "5.99.0", "6.0.0.dev0"):
        said = release_warning(release)
        assert said is not None
        assert release in said
        assert said.count(". ") == 0


def test_a_copy_of_a_cache_begins_as_it_does() -> None:
    from copy import deepcopy

    from transformers import DynamicCache

    cache = DynamicCache()
    cache.update(torch.rand(1, 2, 5, 4), torch.rand(1, 2, 5, 4), 0)
    twin = deepcopy(cache)
    assert has_same_start(twin, cache, 0, 5)
    twin.update(torch.rand(1, 2, 1, 4), torch.rand(1, 2, 1, 4), 0)
    assert has_same_start(twin, cache, 0, 5)
    assert not has_same_start(twin, cache, 0, 6)
    other = DynamicCache()
    other.update(torch.rand(1, 2, 5, 4), torch.rand(1, 2, 5, 4), 0)
    assert not has_same_start(other, cache, 0, 5)


@pytest.mark.parametrize(("rows", "is_copied"), [([1, 1, 1], False), ([1, 0], True)])
def test_one_row_of_a_cache_is_named_again_without_a_copy(rows: list[int], is_copied: bool) -> None:
    keys = torch.randn(2, 1, 3, 4)
    cache = DynamicCache()
    cache.update(keys, keys + 1, 0)
    held = cache.layers[0].keys.untyped_storage().data_ptr()
    select_rows(cache, torch.tensor(rows))
    assert torch.equal(cache.layers[0].keys, keys[rows])
    assert torch.equal(cache.layers[0].values, keys[rows] + 1)
    assert (cache.layers[0].keys.untyped_storage().data_ptr() != held) == is_copied
