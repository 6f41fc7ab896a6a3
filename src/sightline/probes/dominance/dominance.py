"""Text dominance: how attention splits between text and the other modalities, layer by layer (arXiv 2508.10552)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention import AttentionCall, EditedCall, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.attention.row_buffer import RowBuffer
from sightline.attention.sink_tracker import SinkTracker, track_sinks
from sightline.errors import InputError, SightlineError
from sightline.methods.base import Method, anatomy_and_layout, setting
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout
from sightline.models.transformers_api import selects_keys
from sightline.probes.dominance.masses import PART, SINKS, LayerMass, SampleDominance, is_whole
from sightline.probes.dominance.queries import Queries, bound, check_queries, generated_tokens, name_of, prompt_rows
from sightline.probes.dominance.result import DominanceResult, aggregate
from sightline.probes.dominance.stages import SCHEMES, Scheme

if TYPE_CHECKING:
    from sightline.probes.sinks import Sinks

Metric = Callable[[Float[Tensor, "heads positions"], TokenLayout], float]
"""From one query row's attention and its sample's layout to a number."""

_MODALITIES = (Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)

_BLOCK = 256
"""Rows whose selected keys are looked at together."""

_MANY = 4
"""From a quarter of the rows on, the kernel's pass over all rows is cheaper than blocks of the chosen ones."""


@dataclass(frozen=True)
class Dominance(Method):
    """Reads MDI and AEI while the model runs; changes nothing.

    queries: whose attention is read. `generated`: at every generation step the row that predicts the next token, as
    the paper does (a plain forward pass counts as one step). `prompt`: every text row of the prompt. `all`: every row
    of the prompt that is not padding. Also a list of positions of the prompt, or a function of the prompt's layout and
    the token ids, such as `words("noun")`, which chooses tokens of the prompt by their own rows and generated ones by
    the rows that predict them. Keys are the input's positions in each case: generated ones count on no side.
    stages: how layers are put together as early, middle and late; see `stage_layers`.

    sinks: as `find_sinks` returns them. `mdi_no_sinks` then leaves out, beside BOS, every text and image token that is
    a sink in the layer at hand; without, BOS alone.

    metrics: functions of one query row's weights [heads, positions of the input] and the layout of its sample (a batch
    of one) to a number; their means over the query rows are reported and put together as MDI is.

    Where a prompt has several images, the attention on each is kept apart too (`SampleDominance.by_image`).

    The text is every text position that is not padding, template and system prompt included. BOS and other sinks are
    part of it; `mdi_no_sinks` leaves them out.
    """

    name: ClassVar[str] = "dominance"
    queries: Queries = setting("generated", "rows whose attention is read: generated, prompt or all")
    stages: Scheme = setting("paired", "layers called early, middle, late: paired or thirds")
    sinks: Sinks | None = setting(None, "found sinks, to be left out of mdi_no_sinks")
    metrics: Mapping[str, Metric] | None = setting(None, "metrics of one's own, by name; from Python alone")

    def __post_init__(self) -> None:
        object.__setattr__(self, "queries", check_queries(self.queries))
        for name, metric in (self.metrics or {}).items():
            if not callable(metric) or not name.isidentifier():
                raise InputError(f"The metric {name!r} is no function under a plain name: give name=function.")
        if self.stages not in SCHEMES:
            raise InputError(f"There are no stages called '{self.stages}'; use {' or '.join(SCHEMES)}.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[DominanceProbe]:
        """Read every prompt that runs inside; yields the probe whose `result()` can be asked at any time."""
        anatomy, source = anatomy_and_layout(model, layout)
        name = str(getattr(model, "name", type(model).__name__))
        dims, tau = (self.sinks.dims, self.sinks.tau) if self.sinks is not None else ((), 1.0)
        with track_sinks(anatomy, dims, tau) as watch:
            spec = replace(self, queries=bound(self.queries, model))
            probe = DominanceProbe(spec, anatomy, name, watch if dims else None)
            with attach(anatomy, reader=probe, layout=source):
                yield probe
                probe.finish()


@dataclass
class _Prompt:
    """Sums over the query rows of one prompt, as they come in."""

    layout: TokenLayout
    groups: tuple[str, ...]
    membership: Tensor
    sums: dict[int, Tensor]
    rows: Tensor
    fed: list[Tensor | None]
    by_step: dict[int, dict[int, Tensor]]
    ids: Tensor | None = None
    wanted: Tensor | None = None
    """[batch, positions], the prompt's query rows."""
    by_layer: dict[int, Tensor] = field(default_factory=dict)
    """The membership in layers whose sinks are known."""


class DominanceProbe:
    """The reader behind `Dominance`: one `SampleDominance` for every row of every batch that was run."""

    def __init__(self, spec: Dominance, anatomy: Anatomy, model_name: str, watch: SinkTracker | None = None) -> None:
        self.spec = spec
        self.model_name = model_name
        self._anatomy = anatomy
        self._watch = watch
        self._prompt: _Prompt | None = None
        self._done: list[SampleDominance] = []
        self._tape = RowBuffer(self._consume)

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts; a new prompt closes the one before."""
        self._tape.begin(step)
        if step.is_start:
            self.finish()
        if self._watch is not None:
            self._watch.begin(step)
        prompt = self._prompt
        if prompt is None or prompt.layout is not step.layout:
            self._prompt = prompt = self._opened(step.layout, prompt)
        prompt.fed.append(step.input_ids if step.is_decoding else None)
        if not step.is_decoding:
            self._choose(prompt, step)

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Take what this layer's rows say."""
        prompt = self._prompt
        if prompt is None:
            return
        if self.spec.queries == "generated" or callable(self.spec.queries):
            self._tape.keep(layer, attention, step, len(prompt.fed) - 1)
        if not step.is_decoding and prompt.wanted is not None and bool(prompt.wanted.any()):
            self._add_rows(prompt, prompt.wanted, layer, attention, step)

    def end(self, step: ForwardPass) -> None:
        """The pass is over; rows of decoding steps may go on waiting."""

    def finish(self) -> None:
        """Compute what waits, and close the prompt at hand; the next forward pass must start another."""
        self._tape.flush()
        prompt, self._prompt = self._prompt, None
        if prompt is not None:
            self._done += self._samples(prompt)

    def result(self) -> DominanceResult:
        """All prompts so far, aggregated.

        Raises:
            SightlineError: when nothing was run inside the `with`.
        """
        self.finish()
        if not self._done:
            raise SightlineError(
                "Nothing was measured: run the model inside the `with`, by generate or a forward pass."
            )
        return aggregate(self._done, model=self.model_name, stages=self.spec.stages)

    def _choose(self, prompt: _Prompt, step: ForwardPass) -> None:
        """The prompt's own query rows."""
        if callable(self.spec.queries) and not step.is_start:
            raise InputError("Queries chosen by a function need the prompt in one pass: leave prefill_chunk_size out.")
        prompt.ids = None if step.input_ids is None else step.input_ids.cpu()
        prompt.wanted = prompt_rows(self.spec.queries, prompt.layout, prompt.ids)

    def _opened(self, layout: TokenLayout, before: _Prompt | None) -> _Prompt:
        groups, membership = _membership(layout, has_sinks=self._watch is not None)
        if before is not None and before.groups == groups:
            # A prompt that comes in pieces: what was summed stays, the keys have grown.
            return _Prompt(layout, groups, membership, before.sums, before.rows, before.fed, before.by_step)
        return _Prompt(layout, groups, membership, {}, torch.zeros(layout.batch, dtype=torch.long), [], {})

    def _add_rows(self, prompt: _Prompt, chosen: Tensor, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        call = attention.call
        wanted = chosen[:, step.offset : step.offset + call.queries]
        rows = wanted.any(0).nonzero()[:, 0]
        member = self._keys(prompt, layer, call.first_key, call.keys, call.query.device)
        if len(rows) * _MANY > call.queries:
            mass = attention.group_mass(member)[:, :, rows.to(call.query.device)]
        else:
            mass = attention.row_mass(rows, member)
        mass = self._with_more(prompt, attention, rows, member, mass)
        weight = wanted[:, rows].to(mass.device, mass.dtype)
        total = torch.einsum("bhrg,br->bg", mass, weight) / call.heads
        prompt.sums[layer] = prompt.sums[layer] + total if layer in prompt.sums else total
        if layer == self._anatomy.attention_layers[0]:
            prompt.rows += wanted.sum(1)

    def _consume(self, layer: int, attention: EditedCall, rows: Tensor, numbers: list[int]) -> None:
        prompt = self._prompt
        if prompt is None:
            return
        call = attention.call
        member = self._keys(prompt, layer, call.first_key, call.keys, call.query.device)
        mass = self._with_more(prompt, attention, rows, member, attention.row_mass(rows, member)).mean(1)
        for index, number in enumerate(numbers):
            prompt.by_step.setdefault(layer, {})[number] = mass[:, index]

    def _with_more(self, prompt: _Prompt, attention: EditedCall, rows: Tensor, member: Tensor, mass: Tensor) -> Tensor:
        """[batch, heads, rows, columns]: the masses, then the shares among selected keys, then one's own metrics."""
        if selects_keys(attention.call.module):
            mass = torch.cat([mass, _selected(attention.call, rows, member, prompt.groups)], -1)
        return self._with_metrics(prompt, attention, rows, mass)

    def _with_metrics(self, prompt: _Prompt, attention: EditedCall, rows: Tensor, mass: Tensor) -> Tensor:
        """With a column a metric, one number a row, alike for all heads."""
        metrics = self.spec.metrics
        if not metrics:
            return mass
        found = mass.new_zeros((*mass.shape[:3], len(metrics)))
        first, length = attention.call.first_key, prompt.layout.length
        alone = [_sample(prompt.layout, sample) for sample in range(len(mass))]
        for place, row in enumerate(rows.tolist()):  # one row at a time: many at once would be the square
            weights = attention.row_weights(torch.tensor([row]))[:, :, 0]
            weights = torch.nn.functional.pad(weights, (first, 0))[..., :length]
            weights = torch.nn.functional.pad(weights, (0, length - weights.shape[-1]))
            for sample, layout in enumerate(alone):
                values = [float(metric(weights[sample], layout)) for metric in metrics.values()]
                found[sample, :, place] = torch.tensor(values, dtype=found.dtype)
        return torch.cat([mass, found], -1)

    def _keys(self, prompt: _Prompt, layer: int, first: int, count: int, device: torch.device) -> Tensor:
        """[batch, keys, groups]: the membership of the keys that a call has; generated keys belong to no group."""
        if prompt.membership.device != device:
            prompt.membership = prompt.membership.to(device)
        marks = None if self._watch is None else self._watch.marks(layer)
        if marks is not None and layer not in prompt.by_layer:
            prompt.by_layer[layer] = _with_sinks(prompt.groups, prompt.membership, marks.to(device))
        member = prompt.by_layer.get(layer, prompt.membership)[:, first : first + count]
        missing = count - int(member.shape[1])
        return torch.nn.functional.pad(member, (0, 0, 0, missing)) if missing else member

    def _samples(self, prompt: _Prompt) -> list[SampleDominance]:
        batch = prompt.layout.batch
        rows, sums = prompt.rows.clone(), {layer: total.double().cpu() for layer, total in prompt.sums.items()}
        if prompt.by_step:
            counted = self._counted_steps(prompt)
            rows += counted.sum(1)
            for layer, steps in prompt.by_step.items():
                numbers = sorted(steps)
                mass = torch.stack([steps[number] for number in numbers], 1).double().cpu()
                total = (mass * counted[:, numbers, None]).sum(1)
                sums[layer] = sums[layer] + total if layer in sums else total
        tokens = prompt.membership.cpu().sum(1)
        samples = []
        for sample in range(batch):
            if not sums or not rows[sample]:
                continue
            counts = {group: int(tokens[sample, index]) for index, group in enumerate(prompt.groups)}
            layers = []
            for layer, total in sorted(sums.items()):
                means = (total[sample] / rows[sample]).tolist()
                names, metrics = prompt.groups, list(self.spec.metrics or ())
                masses, rest = dict(zip(names, means, strict=False)), means[len(names) :]
                selected = dict(zip(names, rest, strict=False)) if len(rest) > len(metrics) else {}
                selected = {group: share for group, share in selected.items() if is_whole(group)}
                own = dict(zip(metrics, rest[len(rest) - len(metrics) :], strict=True))
                layers.append(LayerMass(layer, masses, _sink_counts(prompt, layer, sample), selected, own))
            samples.append(SampleDominance(name_of(self.spec.queries), int(rows[sample]), counts, tuple(layers)))
        return samples

    def _counted_steps(self, prompt: _Prompt) -> Tensor:
        """[batch, steps], bool: the steps that predict a token of the answer; none once a sample has ended."""
        batch, count = prompt.layout.batch, len(prompt.fed)
        counted = torch.ones((batch, count), dtype=torch.bool)
        ends = torch.tensor(sorted(self._anatomy.eos_token_ids), dtype=torch.long)
        ended = torch.zeros(batch, dtype=torch.bool)
        for number, ids in enumerate(prompt.fed):
            if ids is not None:
                ended = ended | torch.isin(ids[:, -1].cpu(), ends)
            counted[:, number] = ~ended
        # Pieces of a prompt before its last predict nothing that is kept.
        pieces = [number for number, ids in enumerate(prompt.fed) if ids is None]
        counted[:, pieces[:-1]] = False
        return counted & self._chosen_steps(prompt)

    def _chosen_steps(self, prompt: _Prompt) -> Tensor:
        """[batch, steps], bool: the steps whose token the queries choose; the last one's is never seen."""
        batch, count = prompt.layout.batch, len(prompt.fed)
        if not callable(self.spec.queries):
            return torch.ones((batch, count), dtype=torch.bool)
        fed = [ids[:, -1:].cpu() for ids in prompt.fed if ids is not None]
        tokens = None if prompt.ids is None else torch.cat([prompt.ids[:, : prompt.layout.prompt_length], *fed], 1)
        chosen = generated_tokens(self.spec.queries, prompt.layout, tokens)
        found = torch.zeros((batch, count), dtype=torch.bool)
        if chosen is not None and fed:
            found[:, count - 1 - len(fed) : count - 1] = chosen
        return found


def _membership(layout: TokenLayout, has_sinks: bool) -> tuple[tuple[str, ...], Tensor]:
    """The groups of keys that a prompt has, and [batch, positions, groups] telling which position is in which.

    has_sinks: every modality has its sinks, which a layer fills in; else there are those of the text, its BOS.
    """
    names, planes = [], []
    for modality in _MODALITIES:
        plane = layout.modality == int(modality)
        if modality is Modality.TEXT or bool(plane.any()):
            names.append(modality.name.lower())
            planes.append(plane)
    for image in _images(layout):
        names.append(f"{image.modality.name.lower()}{PART}{image.index}")
        planes.append(image.plane)
    sinks = layout.bos & (layout.modality == int(Modality.TEXT))
    others = [] if not has_sinks else [name for name in names[1:] if PART not in name]
    names += [name + SINKS for name in (names[0], *others)]
    planes += [sinks, *(torch.zeros_like(sinks) for _ in others)]
    return tuple(names), torch.stack(planes, -1).float()


def _selected(call: AttentionCall, rows: Tensor, member: Tensor, groups: tuple[str, ...]) -> Tensor:
    """[batch, heads, rows, groups]: the share of each group among the input keys that each row may see."""
    base = [index for index, name in enumerate(groups) if is_whole(name)]
    parts = []
    for block in torch.split(rows.to(call.query.device), _BLOCK):
        counts = torch.einsum("bhrk,bkg->bhrg", call.visible(block).to(member.dtype), member)
        parts.append(counts / counts[..., base].sum(-1, keepdim=True).clamp(min=1))
    return torch.cat(parts, 2).expand(len(member), call.heads, -1, -1)


@dataclass(frozen=True)
class _Image:
    modality: Modality
    index: int
    plane: Tensor


def _images(layout: TokenLayout) -> list[_Image]:
    """The tokens of each image and video, where some prompt has several."""
    planes: dict[tuple[Modality, int], Tensor] = {}
    for sample, grids in enumerate(layout.grids):
        for grid in grids:
            key = grid.modality, grid.index
            plane = planes.setdefault(key, torch.zeros(layout.modality.shape, dtype=torch.bool))
            plane[sample, grid.positions[grid.positions >= 0]] = True
    several = {modality for modality, index in planes if index}
    return [_Image(*key, plane) for key, plane in sorted(planes.items()) if key[0] in several]


def _sample(layout: TokenLayout, sample: int) -> TokenLayout:
    """The layout of one sample of a batch."""
    rows = slice(sample, sample + 1)
    return replace(layout, modality=layout.modality[rows], bos=layout.bos[rows], grids=layout.grids[rows])


def _with_sinks(groups: tuple[str, ...], membership: Tensor, marks: Tensor) -> Tensor:
    """The membership in a layer whose sinks are `marks` [batch, positions]; BOS stays one."""
    found = membership.clone()
    for index, name in enumerate(groups):
        if name.endswith(SINKS):
            own = membership[..., groups.index(name.removesuffix(SINKS))]
            found[..., index] = torch.maximum(found[..., index], own * marks)
    return found


def _sink_counts(prompt: _Prompt, layer: int, sample: int) -> dict[str, int]:
    member = prompt.by_layer.get(layer)
    if member is None:
        return {}
    counts = member[sample].sum(0).tolist()
    return {name: int(count) for name, count in zip(prompt.groups, counts, strict=True) if name.endswith(SINKS)}
