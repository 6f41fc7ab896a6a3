"""A token that a model does not have is refused in a sentence, wherever its id can be given."""

from __future__ import annotations

import pytest

import sightline as sl
from families import BY_NAME
from sightline.errors import InputError
from sightline.methods.base import parse_spec
from sightline.models.word_tokens import require_tokens


@pytest.mark.parametrize("spec", ["projectaway:tokens=9999", "icd:tokens=9999", "yes_bias:yes=128,no=5"])
def test_methods_refuse_a_token_that_is_not_there(spec: str) -> None:
    model, inputs, method = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs(1, None).inputs, parse_spec(spec)
    assert method is not None
    with pytest.raises(InputError, match="is out of range: the model has tokens 0 to 127"), method.on(model):
        model.generate(**inputs, max_new_tokens=1)


def test_the_lens_refuses_a_token_that_is_not_there() -> None:
    model, inputs = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs(1, None).inputs
    with pytest.raises(InputError, match="Token 999 in image_lens is out of range"):
        sl.image_lens(model, inputs, [999])
    require_tokens("any", sl.find_anatomy(model), [0, 127])
