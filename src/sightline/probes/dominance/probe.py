"""The reader behind Dominance: masses of the query rows of every prompt, summed as they come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass
from sightline.attention.row_buffer import Row, RowBuffer
from sightline.attention.sink_tracker import SinkTracker
from sightline.errors import InputError, SightlineError
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout
from sightline.models.transformers_api.attention import selects_keys
from sightline.probes.dominance.masses import SINKS, LayerMass, SampleDominance, is_modality
from sightline.probes.dominance.membership import membership_of, selected_shares, with_sinks
from sightline.probes.dominance.queries import Queries, generated_tokens, name_of, prompt_rows
from sightline.probes.dominance.result import DominanceResult, aggregate
from sightline.probes.dominance.stages import Scheme

Metric = Callable[[Float[Tensor, "heads positions"], TokenLayout], float]
"""From one query row's attention and its sample's layout to a number."""

_MANY = 4
"""From a quarter of the rows on, the kernel's pass over all rows is cheaper than blocks of the chosen ones."""


@dataclass
class _Prompt:
    """Sums over the query rows of one prompt, as they come in."""

    layout: TokenLayout
    groups: tuple[str, ...]
    membership: Tensor
    sums: dict[int, Tensor]
    """By layer, [batch, heads or 1, groups]."""
    rows: Tensor
    fed: list[Tensor | None]
    by_step: dict[int, list[tuple[list[int], Tensor]]]
    """By layer, numbers of steps and what their rows gave, [batch, heads or 1, steps, groups]."""
    ids: Tensor | None = None
    wanted: Tensor | None = None
    """[batch, positions], the prompt's query rows."""
    by_layer: dict[int, Tensor] = field(default_factory=dict)
    """The membership in layers whose sinks are known."""


class DominanceProbe:
    """The reader behind `Dominance`: one `SampleDominance` for every row of every batch that was run."""

    def __init__(
        self,
        anatomy: Anatomy,
        model_name: str,
        queries: Queries,
        stages: Scheme,
        metrics: Mapping[str, Metric],
        watch: SinkTracker | None = None,
        keeps_heads: bool = False,
    ) -> None:
        self._keeps_heads = keeps_heads
        self.model_name = model_name
        self._queries = queries
        self._stages = stages
        self._metrics = dict(metrics)
        self._anatomy = anatomy
        self._watch = watch
        self._prompt: _Prompt | None = None
        self._done: list[SampleDominance] = []
        self._has_run = False
        self._buffer = RowBuffer(self._consume)
        self._keeps_steps = queries == "generated" or callable(queries)

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts; a new prompt closes the one before."""
        self._buffer.begin(step)
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
        if self._keeps_steps:
            self._buffer.keep(layer, attention, step, len(prompt.fed) - 1)
        if not step.is_decoding and prompt.wanted is not None and bool(prompt.wanted.any()):
            self._add_rows(prompt, prompt.wanted, layer, attention, step)

    def take_row(self, layer: int, row: Row, step: ForwardPass) -> None:
        """The same of a decoding step that nothing edits."""
        prompt = self._prompt
        if prompt is not None and self._keeps_steps:
            self._buffer.take(layer, row, step, len(prompt.fed) - 1)

    def end(self, step: ForwardPass) -> None:
        """The pass is over; rows of decoding steps may go on waiting."""

    def finish(self) -> None:
        """Compute what waits, and close the prompt at hand; the next forward pass must start another."""
        self._buffer.flush()
        prompt, self._prompt = self._prompt, None
        if prompt is not None:
            self._has_run = True
            self._done += self._samples(prompt)

    def result(self) -> DominanceResult:
        """All prompts so far, aggregated.

        Raises:
            SightlineError: when nothing was run inside the `with`.
        """
        self.finish()
        if not self._done and self._has_run:
            name = name_of(self._queries)
            raise InputError(f"The queries {name} chose not one token of the prompts and answers: choose others.")
        if not self._done:
            raise SightlineError(
                "Nothing was measured: run the model inside the `with`, by generate or a forward pass."
            )
        return aggregate(self._done, model=self.model_name, stages=self._stages)

    def _choose(self, prompt: _Prompt, step: ForwardPass) -> None:
        """The prompt's own query rows."""
        if callable(self._queries) and not step.is_start:
            raise InputError("Queries chosen by a function need the prompt in one pass: leave prefill_chunk_size out.")
        prompt.ids = None if step.input_ids is None else step.input_ids.cpu()
        prompt.wanted = prompt_rows(self._queries, prompt.layout, prompt.ids)

    def _opened(self, layout: TokenLayout, before: _Prompt | None) -> _Prompt:
        groups, membership = membership_of(layout, has_sinks=self._watch is not None)
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
        total = self._of_heads(torch.einsum("bhrg,br->bhg", mass, weight))
        prompt.sums[layer] = prompt.sums[layer] + total if layer in prompt.sums else total
        if layer == self._anatomy.attention_layers[0]:
            prompt.rows += wanted.sum(1)

    def _consume(self, layer: int, attention: EditedCall, rows: Tensor, numbers: list[int]) -> None:
        prompt = self._prompt
        if prompt is None:
            return
        call = attention.call
        member = self._keys(prompt, layer, call.first_key, call.keys, call.query.device)
        mass = self._with_more(prompt, attention, rows, member, attention.row_mass(rows, member))
        prompt.by_step.setdefault(layer, []).append((numbers, self._of_heads(mass)))

    def _of_heads(self, mass: Tensor) -> Tensor:
        """[batch, heads, ...]: as it is, or its mean over heads, [batch, 1, ...]."""
        return mass if self._keeps_heads else mass.mean(1, keepdim=True)

    def _with_more(self, prompt: _Prompt, attention: EditedCall, rows: Tensor, member: Tensor, mass: Tensor) -> Tensor:
        """[batch, heads, rows, columns]: the masses, then the shares among selected keys, then one's own metrics."""
        if selects_keys(attention.call.module):
            mass = torch.cat([mass, selected_shares(attention.call, rows, member, prompt.groups)], -1)
        return self._with_metrics(prompt, attention, rows, mass)

    def _with_metrics(self, prompt: _Prompt, attention: EditedCall, rows: Tensor, mass: Tensor) -> Tensor:
        """With a column a metric, one number a row, alike for all heads."""
        metrics = self._metrics
        if not metrics:
            return mass
        found = mass.new_zeros((*mass.shape[:3], len(metrics)))
        first, length = attention.call.first_key, prompt.layout.length
        present = prompt.layout.modality != int(Modality.PADDING)
        alone = [prompt.layout.unpadded(sample) for sample in range(len(mass))]
        for place, row in enumerate(rows.tolist()):  # one row at a time: many at once would be the square
            weights = attention.row_weights(torch.tensor([row]))[:, :, 0]
            weights = torch.nn.functional.pad(weights, (first, 0))[..., :length]
            weights = torch.nn.functional.pad(weights, (0, length - weights.shape[-1]))
            for sample, layout in enumerate(alone):
                own = weights[sample][:, present[sample].to(weights.device)]
                values = [float(metric(own, layout)) for metric in metrics.values()]
                found[sample, :, place] = torch.tensor(values, dtype=found.dtype)
        return torch.cat([mass, found], -1)

    def _keys(self, prompt: _Prompt, layer: int, first: int, count: int, device: torch.device) -> Tensor:
        """[batch, keys, groups]: the membership of the keys that a call has; generated keys belong to no group."""
        if prompt.membership.device != device:
            prompt.membership = prompt.membership.to(device)
        marks = None if self._watch is None else self._watch.marks(layer)
        if marks is not None and layer not in prompt.by_layer:
            prompt.by_layer[layer] = with_sinks(prompt.groups, prompt.membership, marks.to(device))
        member = prompt.by_layer.get(layer, prompt.membership)[:, first : first + count]
        missing = count - int(member.shape[1])
        return torch.nn.functional.pad(member, (0, 0, 0, missing)) if missing else member

    def _samples(self, prompt: _Prompt) -> list[SampleDominance]:
        batch = prompt.layout.batch
        rows, sums = prompt.rows.clone(), {layer: total.double().cpu() for layer, total in prompt.sums.items()}
        if prompt.by_step:
            counted = self._counted_steps(prompt)
            rows += counted.sum(1)
            for layer, parts in prompt.by_step.items():
                numbers = [number for some, _ in parts for number in some]
                mass = torch.cat([part for _, part in parts], 2).double().cpu()
                total = (mass * counted[:, None, numbers, None]).sum(2)
                sums[layer] = sums[layer] + total if layer in sums else total
        tokens = prompt.membership.cpu().sum(1)
        samples = []
        for sample in range(batch):
            if not sums or not rows[sample]:
                continue
            counts = {group: int(tokens[sample, index]) for index, group in enumerate(prompt.groups)}
            layers = []
            for layer, total in sorted(sums.items()):
                of_heads = total[sample] / rows[sample]
                means = of_heads.mean(0).tolist()
                names, metrics = prompt.groups, list(self._metrics)
                masses, rest = dict(zip(names, means, strict=False)), means[len(names) :]
                selected = dict(zip(names, rest, strict=False)) if len(rest) > len(metrics) else {}
                selected = {group: share for group, share in selected.items() if is_modality(group)}
                own = dict(zip(metrics, rest[len(rest) - len(metrics) :], strict=True))
                heads = (
                    [dict(zip(names, head, strict=False)) for head in of_heads.tolist()] if self._keeps_heads else []
                )
                sinks = _sink_counts(prompt, layer, sample)
                layers.append(LayerMass(layer, masses, sinks, selected, own, tuple(heads)))
            samples.append(SampleDominance(name_of(self._queries), int(rows[sample]), counts, tuple(layers)))
        return samples

    def _counted_steps(self, prompt: _Prompt) -> Tensor:
        """[batch, steps], bool: the steps that predict a token of the answer; none once a sample has ended."""
        batch, count = prompt.layout.batch, len(prompt.fed)
        counted = torch.ones((batch, count), dtype=torch.bool)
        ends = torch.tensor(sorted(self._anatomy.eos_token_ids), dtype=torch.long)
        steps = [number for number, ids in enumerate(prompt.fed) if ids is not None]
        if steps:
            fed = torch.stack([ids[:, -1] for ids in prompt.fed if ids is not None], 1).cpu()
            has_end = torch.zeros_like(counted)
            has_end[:, steps] = torch.isin(fed, ends)
            counted = has_end.cumsum(1) == 0
        # Pieces of a prompt before its last predict nothing that is kept.
        pieces = [number for number, ids in enumerate(prompt.fed) if ids is None]
        counted[:, pieces[:-1]] = False
        return counted & self._chosen_steps(prompt)

    def _chosen_steps(self, prompt: _Prompt) -> Tensor:
        """[batch, steps], bool: the steps whose token the queries choose; the last one's is never seen."""
        batch, count = prompt.layout.batch, len(prompt.fed)
        if not callable(self._queries):
            return torch.ones((batch, count), dtype=torch.bool)
        fed = [ids[:, -1:].cpu() for ids in prompt.fed if ids is not None]
        tokens = None if prompt.ids is None else torch.cat([prompt.ids[:, : prompt.layout.prompt_length], *fed], 1)
        chosen = generated_tokens(self._queries, prompt.layout, tokens)
        found = torch.zeros((batch, count), dtype=torch.bool)
        if chosen is not None and fed:
            found[:, count - 1 - len(fed) : count - 1] = chosen
        return found


def _sink_counts(prompt: _Prompt, layer: int, sample: int) -> dict[str, int]:
    member = prompt.by_layer.get(layer)
    if member is None:
        return {}
    counts = member[sample].sum(0).tolist()
    return {name: int(count) for name, count in zip(prompt.groups, counts, strict=True) if name.endswith(SINKS)}
