"""Study: what is hidden, from whom, and where the effect is read; and the map, or maps, that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.knockout.deepstack import deepstack_effects
from sightline.knockout.head_maps import head_answers
from sightline.knockout.logits import followed
from sightline.knockout.measures import Array
from sightline.knockout.patch import PARTS, Part, pair_of, patch_answers
from sightline.knockout.reader import ImpactReader, local_every_row, read_row, read_tokens
from sightline.knockout.readings import READINGS, read
from sightline.knockout.registers import register_norms
from sightline.knockout.result import ImpactMap
from sightline.knockout.sample_inputs import encoded, layout_in, other_of
from sightline.knockout.source import Selection, Source, Tokens, Unit
from sightline.knockout.sources import Among, find_controls, find_row, find_sources
from sightline.knockout.study_rules import group, is_of, listing, refuse_idle, require_choice, require_whole
from sightline.knockout.tower import tower_effects
from sightline.knockout.vision import FILLS, Answers, Fill, vision_effects
from sightline.knockout.words import pieces_of
from sightline.memory import is_out_of_memory
from sightline.methods.base import anatomy_and_layout
from sightline.models.layout import Modality, TokenLayout
from sightline.probes.image_lens import token_of
from sightline.settings import setting

if TYPE_CHECKING:
    from sightline.attention.passes import LayoutSource
    from sightline.models.anatomy import Anatomy

Mode = Literal[
    "local", "causal", "vision", "tower", "deepstack", "patch",
    "relevancy", "rollout", "gradient", "lens", "locate", "registers",
]  # fmt: skip
Scope = Literal["row", "every-row"]

MODES: tuple[str, ...] = get_args(Mode)
SCOPES: tuple[str, ...] = get_args(Scope)


@dataclass(frozen=True)
class Study:
    """The settings of a study.

    Attributes:
        mode: "local": the layer's own output. "causal": the answer, when the row stops reading a source at a layer.
            With the unit "head", when a head puts out nothing.
            "vision": the answer, when a part of the picture is painted over. "tower": the answer and the tower's layer,
            when patches are hidden inside the vision tower. "deepstack": the answer, when vision features are not added
            after a layer. "patch": the answer to the pair's other, when what a module puts out is taken from this one.
            "relevancy", "rollout", "gradient", "lens", "locate": readings, see `readings`; "registers": `registers`.
        tokens, unit, block, positions: what is hidden, see `Selection`.
        row: "last", the row that predicts the next token; a position; or "all" rows, of which local maps are means.
        layers: which; by default all.
        window: layers that are cut together, centred on each (causal and tower).
        scope: cut the source off from "row" alone, or from "every-row" after it, which costs whole passes (causal).
        per_head: also the distance of each head's output (local).
        target: the token whose logit and probability are followed: "predicted", its id, or a word's first token.
        new_tokens: a map for each of so many tokens of the answer, fewer where it ends; None for the row alone.
        control: random groups to hold beside, for each modality and size of the sources.
        among: controls are drawn from the "same" modality as the source, or from the "other" ones.
        fill: what parts of the picture are painted over with (vision): "gray", "blur" or "mean".
        other, other_prompt: the other of the pair: a picture's file, a prompt of as many tokens, or both (patch).
        part: what is taken from the one: a "layer", its "attention" or its "mlp" (patch).
        seed: of the controls.
        reference: also hide all image tokens together at every layer, once from the row alone and once from every row;
            what lies between the two comes to the row by way of other positions (causal, scope "row"; a few passes).
    """

    mode: Mode = setting(
        "causal", "What is changed and where the effect is read: the layer's own output, or the answer."
    )
    tokens: Tokens = setting("all", "Which are hidden.")
    unit: Unit = setting("token", "What is hidden as one.")
    block: int | None = setting(None, "Patches are hidden in blocks of K x K.", least=1, metavar="K")
    positions: tuple[int | tuple[int, ...], ...] | None = setting(
        None, "Hide these alone: 3,7,10+11 (a plus joins).", metavar="LIST"
    )
    row: str | int = setting("last", "Whose view: a position, last or all.")
    layers: tuple[int, ...] | None = setting(None, "Only these layers: 0,4-7.", metavar="LIST")
    window: int = setting(1, "Layers that are cut together.", least=1)
    scope: Scope = setting("row", "Cut from the row alone, or from every row after the token (slow).")
    per_head: bool = setting(False, "Also the distance of each head's output (local).")
    target: str | int = setting("predicted", "Token that is followed: predicted, an id, or a word.")
    new_tokens: int | None = setting(None, "A map for each of N tokens of the answer.", least=1, metavar="N")
    control: int = setting(0, "Beside, N random groups of equal size.", least=0, metavar="N")
    among: Among = setting("same", "Of which modality the controls are.")
    fill: Fill = setting("gray", "What parts of the picture are painted over with (vision).")
    other: str | None = setting(None, "The other picture of the pair (patch).", is_file=True, metavar="FILE")
    other_prompt: str | None = setting(
        None, "The other prompt of the pair, of as many tokens (patch).", metavar="WORDS"
    )
    part: Part = setting("layer", "What is restored: a layer, its attention or its mlp (patch).")
    seed: int = setting(0, "Of the controls.", hidden=True)
    reference: bool = setting(False, "Also hide all image tokens together at every layer.", hidden=True)

    def __post_init__(self) -> None:
        if self.positions is not None:
            groups = tuple(map(group, listing("positions", self.positions)))
            object.__setattr__(self, "positions", groups)
        if self.layers is not None:
            object.__setattr__(self, "layers", listing("layers", self.layers))
        require_choice("mode", self.mode, MODES)
        require_choice("scope", self.scope, SCOPES)
        require_choice("fill", self.fill, FILLS)
        require_choice("part", self.part, PARTS)
        if self.other is not None:
            object.__setattr__(self, "other", str(self.other))
        require_choice("pool of controls", self.among, get_args(Among))
        for name in ("window", "control", "new_tokens", "block"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name))
        for layer in self.layers or ():
            require_whole("entry of layers", layer)
        for name, least in (("window", 1), ("control", 0)):
            if getattr(self, name) < least:
                raise InputError(f"The {name} is {getattr(self, name)}: give at least {least}.")
        if self.new_tokens is not None and self.new_tokens < 1:
            raise InputError(f"The number of new tokens is {self.new_tokens}: give at least 1.")
        if self.layers is not None and not self.layers:
            raise InputError("There are no layers to look at: name at least one.")
        _ = self.selection
        refuse_idle(self)

    @property
    def selection(self) -> Selection:
        """What is hidden."""
        return Selection(self.tokens, self.unit, self.block, self.positions)

    def settings(self) -> dict[str, Any]:
        """The fields that the mode's numbers depend on, as a map records them."""
        kept = {name: value for name, value in asdict(self).items() if is_of(self, name)}
        kept.pop("reference", None)  # which adds to the document and changes nothing in it
        if not self.control:
            kept = {name: value for name, value in kept.items() if name not in ("among", "seed")}
        return kept

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

    def _vision(self, vlm: Any, sample: Any) -> Answers:
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
            else:
                maps = reader.causal(groups, layers, self.window, self.scope, followed(self.target))
            baseline = reader.baseline(followed(self.target))
            answer = Answers(everything, maps, baseline, layers, len(controls))
            reference = self._image_as_one(reader, layout) if self.reference and self.scope == "row" else {}
            found.append(replace(self._of(model, answer, reader.row), reference=reference))

        if self.row == "all":
            maps = local_every_row(anatomy, inputs, groups, layers, self.per_head)
            found.append(self._of(model, Answers(everything, maps, {}, layers, len(controls)), "all"))
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

    def _of(self, model: Any, answer: Answers, row: int | str) -> ImpactMap:
        cut = len(answer.sources) - answer.controls
        found = {name: _means(values.double().numpy(), self.row == "all") for name, values in answer.maps.items()}
        baseline = dict(answer.baseline)
        tokenizer = getattr(model, "tokenizer", None)
        if baseline and tokenizer is not None:
            baseline["text"] = str(tokenizer.decode([baseline["token"]]))
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
