"""Whether a model is read rightly: looked at as it is loaded, in as few passes as that takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from sightline.attention.checks import check_model, check_reading
from sightline.data.sample import Sample
from sightline.errors import ModelError, SightlineWarning
from sightline.models.transformers_api.release import warn_of_release
from sightline.text import first_sentence


def require_right_reading(vlm: Any) -> None:
    """ModelError where a model is read wrongly; a warning where that can't be seen, or the release is untested."""
    warn_of_release()
    if vlm.processor is None or vlm.given_layout is not None:
        return
    try:
        inputs = vlm.encode([trial(vlm)] * 2, allow_text_only=True)
        found = check_reading(vlm.anatomy, inputs, vlm.layout(inputs))
    except Exception as error:  # the model may answer all the same, and what reads it says what is wrong
        if "image tokens do not match" in str(error):  # it never will
            raise ModelError(
                f"The processor of {vlm.name} is another model's ({first_sentence(error)}): copy the files of its own."
            ) from error
        warnings.warn(
            f"Whether {vlm.name} is read rightly could not be looked at ({first_sentence(error)}): try "
            "`vlm.check(inputs)` with inputs of your own.",
            SightlineWarning,
            stacklevel=3,
        )
        return
    if found:
        raise ModelError(
            f"{vlm.name} is read wrongly ({found[0].rstrip('.')}): no figure of it would be right; load it with "
            "check=False to use it all the same."
        )


def check_reading_of(vlm: Any, inputs: Mapping[str, Any]) -> list[str]:
    """What is wrong with the reading of a model on these inputs, a sentence each."""
    found: list[str] = check_model(vlm.anatomy, inputs, vlm.layout(inputs))
    return found


def trial(vlm: Any) -> Sample:
    """A small picture and a short prompt; the prompt alone for a model that sees nothing."""
    from PIL import Image

    picture = Image.radial_gradient("L").convert("RGB")
    return Sample(prompt="What is this?", images=(picture,) if vlm.anatomy.vision_tower is not None else ())
