"""Information flow: what cutting one group of positions off from another, in windows of layers, does to the answer.

    change = 100 (p_new - p_old) / p_old         p: probability of the first token of the model's own answer

Attention is cut before the softmax, in all heads, in the layers l - 4 to l + 4 (window 9), for every layer l. Measure
and window of arXiv 2304.14767; sources and targets of arXiv 2411.18620 (code: FightingFighting/
cross-modal-information-flow-in-MLLM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach
from sightline.errors import InputError
from sightline.knockout.causal import cuts_of
from sightline.knockout.logits import row_logits
from sightline.knockout.reader import read_row
from sightline.models.layout import Modality, TokenLayout

if TYPE_CHECKING:
    from sightline.data.sample import Sample
    from sightline.models.vlm import VLM

VISUAL = (Modality.IMAGE, Modality.VIDEO)

FLOWS = ("image -> last", "question -> last", "last -> last", "image -> question")
"""Who is no longer read by whom: source -> target."""


@dataclass(frozen=True)
class FlowResult:
    """One prompt.

    Attributes:
        prob: of the answer's first token, uncut.
        change: by flow, a figure a layer, in per cent of prob; None where nothing could be cut.
    """

    prob: float
    change: Mapping[str, tuple[float | None, ...]]


def information_flow(
    vlm: VLM,
    sample: Sample,
    question: str,
    answer: Sequence[int] | None = None,
    flows: Sequence[str] = FLOWS,
    window: int = 9,
) -> FlowResult:
    """What cutting each flow does, layer by layer.

    Args:
        question: the words of the prompt that are the question; they must stand in the prompt behind the image.
        answer: tokens of the model's answer, whose first is followed; None: the likeliest.
        flows: some of `FLOWS`.
        window: layers that are cut together, centred on each.

    Flows to the last position are read by `sightline.knockout` from one forward pass; those to the question take
    one a layer.

    Raises:
        InputError: for an unknown flow, a prompt without an image, and a question that is not in it.
    """
    wrong = [flow for flow in flows if flow not in FLOWS]
    if wrong:
        raise InputError(f"There is no flow {wrong[0]!r}; there are {', '.join(FLOWS)}.")
    inputs = vlm.encode(sample)
    layout = vlm.layout(inputs)
    groups = {
        "image": layout.positions(0, *VISUAL).tolist(),
        "question": question_positions(vlm.tokenizer, inputs["input_ids"][0], layout, question),
        "last": [layout.length - 1],
    }
    if not groups["image"]:
        raise InputError("The prompt has no image, whose flow could be cut: give one.")
    ends = {flow: tuple(flow.split(" -> ")) for flow in flows}
    to_last = [flow for flow in flows if ends[flow][1] == "last"]
    with read_row(vlm, inputs) as reader:
        token = answer[0] if answer else reader.predicted
        prob = float(reader.baseline(token)["prob"])
        sources = [groups[ends[flow][0]] for flow in to_last]
        maps = reader.causal(sources, window=window, target=token)["prob"] if sources else torch.zeros(0, 0)
    change = {flow: _shares(maps[:, number], prob) for number, flow in enumerate(to_last)}
    for flow in flows:
        if flow not in change:
            source, target = (groups[name] for name in ends[flow])
            change[flow] = _shares(cut_flow(vlm, inputs, source, target, window, token) - prob, prob)
    return FlowResult(prob, {flow: change[flow] for flow in flows})


def cut_flow(
    vlm: VLM, inputs: Mapping[str, Any], source: Sequence[int], target: Sequence[int], window: int, token: int
) -> Tensor:
    """Probability of `token` after the last position when no target reads any source, [layers] float64.

    A forward pass a layer. NaN where the window around a layer holds no layer with softmax attention.
    """
    layers = range(len(vlm.anatomy.layers))
    found = torch.full((len(layers),), torch.nan, dtype=torch.float64)
    for cut in cuts_of(layers, window, vlm.anatomy.attention_layers):
        with attach(vlm.anatomy, editor=Cutting(source, target, cut.layers), layout=vlm.layout):
            logits = row_logits(vlm.anatomy, inputs)[0]
        found[cut.place] = logits.double().softmax(-1)[token]
    return found


class Cutting:
    """The editor (see `sightline.attention.attach`) that hides sources from targets in some layers."""

    def __init__(self, source: Sequence[int], target: Sequence[int], layers: Sequence[int]) -> None:
        self._source, self._target, self._layers = torch.tensor(source), torch.tensor(target), frozenset(layers)

    def begin(self, step: ForwardPass) -> None:
        """Nothing is kept between passes."""

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """Before the softmax, in all heads."""
        if layer not in self._layers:
            return None

        def hide(block: Block) -> Tensor:
            return block.values.index_fill(-1, self._source.to(block.values.device), float("-inf"))

        return Edit(self._target.to(call.query.device), scores=hide)


def question_positions(tokenizer: Any, ids: Tensor, layout: TokenLayout, question: str) -> list[int]:
    """Positions of the tokens that hold the question's words, looked for behind the last image.

    Raises:
        InputError: where the words do not stand there as they are.
    """
    media = layout.positions(0, *VISUAL).tolist()
    after = media[-1] + 1 if media else 0
    places = [place for place in layout.positions(0, Modality.TEXT).tolist() if place >= after]
    tokens = [int(ids[place]) for place in places]
    ends = [len(tokenizer.decode(tokens[: count + 1])) for count in range(len(tokens))]
    whole = tokenizer.decode(tokens)
    words = question.strip()
    start = whole.find(words)
    if start < 0:
        words = tokenizer.decode(tokenizer(words, add_special_tokens=False)["input_ids"]).strip()
        start = whole.find(words)
    if start < 0 or not words:
        raise InputError(f"The question {question!r} does not stand behind the image in the prompt the model is given.")
    starts = [0]
    for before, end in pairwise(ends):  # a token that adds no sign is another byte of the one before
        starts.append(before if end > before else starts[-1])
    return [
        place
        for place, begin, end in zip(places, starts, ends, strict=True)
        if begin < start + len(words) and end > start
    ]


def _shares(change: Tensor, prob: float) -> tuple[float | None, ...]:
    """In per cent of the uncut probability."""
    return tuple(
        None if value != value or prob <= 0 else max(-100.0, 100 * value / prob) for value in change.double().tolist()
    )
