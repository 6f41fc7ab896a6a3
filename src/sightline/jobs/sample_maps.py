"""What `measure` keeps of a sample for `sightline report`: its maps, its words, their grounding, and small pictures."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sightline.benchmarks.thinking import thought_end
from sightline.errors import SightlineError
from sightline.knockout.words import pieces_of
from sightline.probes.dominance import read_maps
from sightline.probes.grounding import Grounding

if TYPE_CHECKING:
    from sightline.data.sample import Sample
    from sightline.models.vlm import VLM
    from sightline.probes.dominance import SampleMaps
    from sightline.probes.grounding.probe import GroundingProbe
    from sightline.probes.sinks import Sinks

Tokens = Sequence[Sequence[int]]
Keep = Callable[[Tokens], list[dict[str, Any]]]


@contextmanager
def keeping_maps(
    vlm: VLM,
    samples: Sequence[Sample],
    inputs: Mapping[str, Any],
    images: Sequence[list[dict[str, Any]]],
    sinks: Sinks | None = None,
) -> Iterator[Keep]:
    """Around one `generate` of a batch; yields what turns its new tokens into a document a sample.

    images: the small pictures of each.

    A model that thinks has "thoughts", how many of its first words are no answer; they have no grounding.

    That of `SampleMaps`, with "question" and "truth" as the data have them, "words", the generated tokens, and
    "prompt", those at the maps' positions, each as [text, whether it goes on the word before it]; "grounding", a score
    a word, None where there is none; "images", as `thumbnails` makes them.
    """
    with ExitStack() as stack:
        reader = stack.enter_context(read_maps(vlm, inputs, sinks=sinks))
        probe = _grounding_probe(vlm, stack) if all(sample.images for sample in samples) else None

        def keep(tokens: Tokens) -> list[dict[str, Any]]:
            maps = reader.maps([_length_of_answer(vlm, row) for row in tokens])
            scores = _grounding(probe, len(samples))
            rows = zip(samples, inputs["input_ids"].tolist(), tokens, maps, scores, images, strict=True)
            return [_document(vlm, *row) for row in rows]

        yield keep


def _document(
    vlm: VLM,
    sample: Sample,
    ids: Sequence[int],
    tokens: Sequence[int],
    maps: SampleMaps,
    scores: list[float | None],
    images: list[dict[str, Any]],
) -> dict[str, Any]:
    count = maps.mean.shape[0]
    pieces, words = pieces_of(ids, vlm.tokenizer), pieces_of(tokens, vlm.tokenizer)[:count]
    thoughts = min(count, thought_tokens(vlm.tokenizer, tokens)) if vlm.thinks else 0
    scores = [None if place < thoughts else score for place, score in enumerate(scores[:count])]
    return (
        maps.to_dict()
        | ({"thoughts": thoughts} if thoughts else {})
        | {
            "question": sample.prompt,
            "truth": sample.answer,
            "words": [[piece.text, piece.joined] for piece in words],
            "prompt": [[pieces[at].text, pieces[at].joined] for at in maps.positions],
            "grounding": [None if score is None else round(score, 4) for score in scores],
            "images": images,
        }
    )


def thought_tokens(tokenizer: Any, tokens: Sequence[int]) -> int:
    """How many tokens of an answer, the first, are thoughts and no answer."""
    text = tokenizer.decode(list(tokens))
    end = thought_end(text)
    if end in (0, len(text)):
        return len(tokens) if end else 0
    return bisect_left(range(len(tokens)), end, key=lambda count: len(tokenizer.decode(list(tokens[:count]))))


def _grounding_probe(vlm: VLM, stack: ExitStack) -> GroundingProbe | None:
    """Open as long as the stack is; None where the model cannot be scored, which is no reason to lose the maps."""
    method = Grounding(layers=f"last{min(4, len(vlm.anatomy.layers))}")
    try:
        return stack.enter_context(method.on(vlm))
    except SightlineError:
        return None


def _grounding(probe: GroundingProbe | None, count: int) -> list[list[float | None]]:
    """Scores by sample; empty where there are none."""
    try:
        rows = [] if probe is None else probe.result()
    except SightlineError:
        rows = []
    return [[token.score for token in row] for row in rows] if len(rows) == count else [[] for _ in range(count)]


def _length_of_answer(vlm: VLM, tokens: Sequence[int]) -> int:
    """How many tokens an answer has without the end token, which says nothing; 1 where there is but that."""
    has_end = bool(tokens) and tokens[-1] in vlm.anatomy.eos_token_ids
    return max(1, len(tokens) - has_end)
