"""What an impact study is set by: what is hidden, from whom, where the effect is read. Needs no model library."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

from sightline.errors import InputError
from sightline.knockout.source import Selection, Tokens, Unit
from sightline.knockout.study_rules import (
    ESTIMATES,
    FILLS,
    MODES,
    PARTS,
    SCOPES,
    Among,
    Estimate,
    Fill,
    Mode,
    Part,
    Scope,
    group,
    is_of,
    listing,
    refuse_idle,
    require_choice,
    require_whole,
)
from sightline.settings import setting


@dataclass(frozen=True)
class StudySettings:
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
        estimate: "gradient": first-order estimates in two to three passes, the largest effects and a sample of the
            sources cut exactly, and how far both agree (causal, scope "row"); "none": all exact.
        seed: of the controls, and of that sample.
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
    estimate: Estimate = setting(
        "none", "Estimates in two to three passes; the largest and a sample are cut exactly (causal)."
    )
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
        require_choice("estimate", self.estimate, ESTIMATES)
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
        if self.estimate == "none":
            kept.pop("estimate", None)  # so that a folder from before there were any goes on
        if not self.control:
            kept = {name: value for name, value in kept.items() if name not in ("among", "seed")}
        return kept
