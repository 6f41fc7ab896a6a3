"""Study: what is hidden, from whom, and where the effect is read; and the map, or maps, that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from sightline.attention.alone import require_alone
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.knockout.deepstack import deepstack_effects
from sightline.knockout.estimate_check import refined
from sightline.knockout.head_maps import head_answers
from sightline.knockout.logits import followed
from sightline.knockout.measures import Array
from sightline.knockout.patch import pair_of, patch_answers
from sightline.knockout.reader import ImpactReader, local_every_row, read_row, read_tokens
from sightline.knockout.readings import READINGS, read
from sightline.knockout.registers import register_norms
from sightline.knockout.result import ImpactMap
from sightline.knockout.sample_inputs import encoded, layout_in, other_of
from sightline.knockout.source import Source
from sightline.knockout.sources import find_controls, find_row, find_sources
from sightline.knockout.study_rules import Scope
from sightline.knockout.study_settings import StudySettings
from sightline.knockout.tower import tower_effects
from sightline.knockout.vision import AnswerEffects, vision_effects
from sightline.knockout.words import pieces_of
from sightline.memory import is_out_of_memory
from sightline.methods.base import anatomy_and_layout
from sightline.models.layout import Modality, TokenLayout
from sightline.models.word_tokens import token_of

if TYPE_CHECKING:
    from sightline.attention.passes import LayoutSource
    from sightline.models.anatomy import Anatomy


class Study(StudySettings):
    """A study, ready to be run on prompts; see `StudySettings` for its fields."""

    def run(
        self,
        model: Any,
        sample: Sample | Mapping[str, Any],
        layout: LayoutSource | None = None,
        on_pass: Callable[[int, int], None] | None = None,
    ) -> list[ImpactMap]:
        """The map; with `new_tokens` one for each token of the answer.

        Args:
            model: a `VLM`, or a bare Transformers model with encoded inputs.
            sample: a `Sample`, which a `VLM` encodes; or what the model's forward takes, of one prompt.
            layout: of the inputs, where it is not to be derived from them.
            on_pass: gets passes done and passes in all, where a mode takes many (tower).

        Raises:
            InputError, ModelError: in one sentence, before anything is computed where that can be known.
        """
        if isinstance(self.target, str) and self.target != "predicted":
            return replace(self, target=token_of(model, self.target)).run(model, sample, layout, on_pass)
        anatomy, source = anatomy_and_layout(model, layout)
        require_alone(anatomy, "impact")
        if self.mode == "vision":
            answer = self._vision(model, sample)
            return [self._of(model, answer, answer.row if answer.row is not None else "last")]
        inputs = encoded(model, sample)
        found = layout_in(anatomy, inputs, source)
        if found.batch != 1:
            raise InputError(f"Impact is read on one prompt, and the inputs have {found.batch}: give one at a time.")
        if self.unit == "head":
            answer = head_answers(anatomy, inputs, self.target, self.layers)
            return [self._of(model, answer, find_row(found, "last"))]
        if self.mode == "tower":
            answer = tower_effects(
                anatomy, inputs, found, self._side, self.layers, self.window, self.target, on_pass=on_pass
            )
            return [self._of(model, answer, find_row(found, "last"))]
        if self.mode == "patch":
            other = encoded(model, other_of(sample, self.other, self.other_prompt))
            answer = patch_answers(
                anatomy,
                pair_of(anatomy, inputs, other, self.target),
                self._sources(model, inputs, found, find_row(found, "last") + 1),
                self.layers,
                self.part,
            )
            return [self._of(model, answer, find_row(found, "last"))]
        if self.mode == "registers":
            return [self._of(model, register_norms(anatomy, inputs, found, self.layers), find_row(found, "last"))]
        if self.mode in READINGS:
            sources = self._sources(model, inputs, found, find_row(found, "last"))
            answer = read(self.mode, model, anatomy, inputs, sources, self.target, self.layers)
            return [self._of(model, answer, find_row(found, "last"))]
        return self._decoder_maps(model, anatomy, inputs, found)

    def _sources(self, model: Any, inputs: Mapping[str, Any], layout: TokenLayout, row: int) -> tuple[Source, ...]:
        pieces = pieces_of(inputs["input_ids"][0].tolist(), getattr(model, "tokenizer", None))
        return find_sources(layout, pieces, row, self.selection)

    @property
    def _side(self) -> int:
        return self.block or 1

    def _vision(self, vlm: Any, sample: Any) -> AnswerEffects:
        if not isinstance(sample, Sample) or not hasattr(vlm, "encode"):
            raise InputError(
                "The mode vision paints over the picture itself: give a model loaded by sightline.load and a Sample."
            )
        return vision_effects(vlm, sample, self._side, self.fill, self.target, self.control, self.seed)

    def _decoder_maps(
        self, model: Any, anatomy: Anatomy, inputs: Mapping[str, Any], layout: TokenLayout
    ) -> list[ImpactMap]:
        row = find_row(layout, "last" if self.row == "all" else self.row)
        pieces = pieces_of(inputs["input_ids"][0].tolist(), getattr(model, "tokenizer", None))
        selection = self.selection
        if self.mode == "deepstack" and self.positions is None:
            selection = replace(selection, tokens="image")
        sources = find_sources(layout, pieces, row, selection)
        if self.mode == "deepstack":
            answer = deepstack_effects(anatomy, inputs, layout, sources, self.target, row, self.layers)
            return [self._of(model, answer, row)]
        controls = find_controls(layout, sources, row, self.control, self.seed, self.among)
        everything = (*sources, *controls)
        groups = [each.positions for each in everything]
        layers = self.layers or tuple(range(len(anatomy.layers)))
        found: list[ImpactMap] = []

        def read(reader: ImpactReader) -> None:
            if self.mode == "local":
                maps = reader.local(groups, layers, self.per_head)
            elif self.estimate == "gradient":
                maps = reader.estimate(groups, layers, self.window, followed(self.target))
            else:
                maps = reader.causal(groups, layers, self.window, self.scope, followed(self.target))
            estimate: dict[str, Any] = {}
            if self.estimate == "gradient":
                maps, estimate = refined(reader, maps, groups, layers, self.window, followed(self.target), self.seed)
            baseline = reader.baseline(followed(self.target))
            answer = AnswerEffects(everything, maps, baseline, layers, len(controls))
            reference = self._image_as_one(reader, layout) if self.reference and self.scope == "row" else {}
            found.append(replace(self._of(model, answer, reader.row), reference=reference, estimate=estimate))

        if self.row == "all":
            maps = local_every_row(anatomy, inputs, groups, layers, self.per_head)
            found.append(self._of(model, AnswerEffects(everything, maps, {}, layers, len(controls)), "all"))
        elif self.new_tokens is not None:
            read_tokens(anatomy, inputs, self.new_tokens, read)
        else:
            with read_row(anatomy, inputs, row) as reader:
                read(reader)
        return found

    def _image_as_one(self, reader: ImpactReader, layout: TokenLayout) -> dict[str, dict[str, float]]:
        """Effects of hiding all image tokens at every layer, by scope; nothing without an image before the row."""
        image = layout.mask(Modality.IMAGE, Modality.VIDEO)[0].nonzero()[:, 0]
        group = tuple(image[image < reader.row].tolist())
        if not group or self.mode != "causal":
            return {}
        window = 2 * reader.layers + 1
        try:
            found = {
                scope: reader.causal([group], [0], window, scope, followed(self.target)) for scope in get_args(Scope)
            }
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return {}  # the map itself needs less, and is there
        return {scope: {name: float(values[0, 0]) for name, values in maps.items()} for scope, maps in found.items()}

    def _of(self, model: Any, answer: AnswerEffects, row: int | str) -> ImpactMap:
        cut = len(answer.sources) - answer.controls
        found = {name: _means(values.double().numpy(), self.row == "all") for name, values in answer.maps.items()}
        baseline = dict(answer.baseline)
        tokenizer = getattr(model, "tokenizer", None)
        if baseline and tokenizer is not None:
            baseline["text"] = str(tokenizer.decode([baseline["token"]]))
        if baseline.get("predicted", baseline.get("token")) != baseline.get("token") and tokenizer is not None:
            baseline["predicted_text"] = str(tokenizer.decode([baseline["predicted"]]))
        if "against" in baseline and tokenizer is not None:
            baseline["against_text"] = str(tokenizer.decode([baseline["against"]]))
        return ImpactMap(
            model=str(getattr(model, "name", type(model).__name__)),
            mode=self.mode,
            row=row,
            layers=answer.layers,
            tokens=answer.sources[:cut],
            maps={name: values[..., :cut] for name, values in found.items()},
            baseline=baseline,
            settings=self.settings(),
            controls=answer.sources[cut:],
            control_maps={name: values[..., cut:] for name, values in found.items()} if answer.controls else {},
        )


def _means(values: Array, is_all_rows: bool) -> Array:
    """Maps of all rows as means over the rows for which they are defined."""
    if not is_all_rows:
        return values
    known = np.isfinite(values)
    counts = known.sum(-2)
    total: Array = np.where(known, values, 0.0).sum(-2) / np.maximum(counts, 1)
    return np.where(counts > 0, total, np.nan)
