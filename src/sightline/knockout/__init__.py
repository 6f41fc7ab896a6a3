"""What a model would do without a token, at each layer: knockout, also known as masking impact.

    sightline.impact(vlm, sample, mode="causal")      a map, layer by token: to_pandas(), to_csv(), plot()

study.py       Study: the maps of one prompt or of each token of an answer, by `StudySettings`
sources.py     what is hidden: tokens, words, blocks of patches, modalities, random controls
result.py      ImpactMap: the document, the table, a figure
maps.py        local and causal maps of a decoder, exactly
vision.py      parts of the picture painted over; tower.py cuts inside the vision tower; deepstack.py additions left out
compare.py     two models side by side
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.knockout.result import ImpactMap
    from sightline.knockout.source import Selection, Source
    from sightline.knockout.study import Study
else:
    __getattr__ = names_of(
        __name__,
        {
            "sightline.knockout.result": "ImpactMap",
            "sightline.knockout.source": "Selection Source",
            "sightline.knockout.study": "Study",
        },
    )

__all__ = ["ImpactMap", "Selection", "Source", "Study"]
