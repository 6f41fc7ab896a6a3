"""What a model shows of each word while it runs over a caption: grounding scores, and what they are held against.

    grounding ...           g_t of `Grounding`, by layer, over the last four and over all
    attention-weighted ...  the same, weighted by attention
    glsim ...               GLSim and its two parts
    attention mass ...      attention that the row gives to the image, mean over heads, by layer and over all
    lens                    the largest probability that a patch gives to the token by the logit lens, at the last layer
    log-probability         of the token
    entropy                 of the prediction, negated

A name ends in `, before` where it is read at the position that predicts the token, and not at the token's own. Larger
always means more grounded. An object of several tokens has their mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.errors import InputError, ModelError
from sightline.probes.detection.glsim import GLSim
from sightline.probes.grounding.image import VISUAL
from sightline.probes.grounding.scores import Grounding
from sightline.probes.grounding.values import Scores
from sightline.training.collator import Collator

if TYPE_CHECKING:
    from sightline.data.training_sample import TrainingSample
    from sightline.models.layout import TokenLayout
    from sightline.models.vlm import VLM

BEFORE = ", before"


@dataclass(frozen=True)
class WordSignals:
    """Of every labelled word: values by name [words], labels [words], images [words] (a number for each image)."""

    values: dict[str, NDArray[np.float64]]
    labels: NDArray[np.int_]
    images: NDArray[np.int_]


@dataclass
class _ImageMass:
    """A reader: by layer the attention that each row gives to the image, [batch, positions], mean over heads."""

    masses: dict[int, Tensor] = field(default_factory=dict)

    def begin(self, step: ForwardPass) -> None:
        self.masses = {}

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        seen = step.layout.mask(*VISUAL)[:, attention.call.first_key : attention.call.first_key + attention.call.keys]
        self.masses[layer] = attention.group_mass(seen[..., None].float())[..., 0].mean(1)

    def end(self, step: ForwardPass) -> None:
        pass


def read_signals(vlm: VLM, samples: Sequence[TrainingSample], glsim: GLSim, batch: int = 32) -> WordSignals:
    """Run the answers of samples through the model, as if it had given them, and read all of their labelled words.

    An answer that the model generated is cut into tokens anew, which are as a rule the ones it gave.

    Raises:
        InputError: when there is no labelled word.
        ModelError: for a model that does not hand out its hidden states.
    """
    kept = [sample for sample in samples if sample.labelled]
    if not kept:
        raise InputError("Not one answer has a labelled word: give samples with `words`, some labelled 1 and some 0.")
    values: dict[str, list[float]] = {}
    collate = Collator(vlm, has_negatives=False)
    for start in range(0, len(kept), batch):
        for word in _batch_words(vlm, collate, kept[start : start + batch], glsim):
            for name, value in word.items():
                values.setdefault(name, []).append(value)
    numbers: dict[Any, int] = {}
    images = [numbers.setdefault(_image(sample), len(numbers)) for sample in kept for _ in sample.labelled]
    return WordSignals(
        {name: np.array(found) for name, found in values.items()},
        np.array([label for sample in kept for _, _, label in sample.labelled]),
        np.array(images),
    )


def _image(sample: TrainingSample) -> Any:
    """Captions of one image share it, where that can be known."""
    known = sample.images[0]
    return known if isinstance(known, Hashable) else sample.id


def _batch_words(
    vlm: VLM, collate: Collator, samples: Sequence[TrainingSample], glsim: GLSim
) -> Iterator[dict[str, float]]:
    """The values of each word of these samples, in order."""
    # The collator marks tokens by a word's label: here by its number, to find each word's own tokens.
    marked = [
        replace(
            sample,
            images=tuple(sample.question().load_images()),
            words=tuple((start, end, number) for number, (start, end, _) in enumerate(sample.labelled)),
        )
        for sample in samples
    ]
    inputs = collate(marked)
    marks, labels = inputs.pop("grounding"), inputs.pop("labels")
    inputs.pop("ids")
    inputs = {name: value.to(vlm.device) for name, value in inputs.items()}
    layers = vlm.anatomy.attention_layers
    mass = _ImageMass()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        plain = stack.enter_context(Grounding(layers="all").on(vlm))
        weighed = stack.enter_context(Grounding(layers="+".join(map(str, layers)), kind="attention").on(vlm))
        stack.enter_context(attach(vlm.anatomy, reader=mass, layout=vlm.layout))
        output = vlm.model(**inputs, output_hidden_states=True)
        signals = _Signals(vlm, vlm.layout(inputs), inputs["input_ids"], output, plain.scores(), weighed.scores(), mass)
        for row, sample in enumerate(marked):
            end = int((labels[row] >= 0).nonzero()[0]) - 1
            places = [(marks[row] == number).nonzero().flatten() for number in range(len(sample.words or ()))]
            yield from signals.words(row, end, places, glsim)


class _Signals:
    """What one forward pass shows."""

    def __init__(
        self,
        vlm: VLM,
        layout: TokenLayout,
        ids: Tensor,
        output: Any,
        plain: Scores,
        weighed: Scores,
        mass: _ImageMass,
    ) -> None:
        states = getattr(output, "hidden_states", None)
        if states is None or len(states) != len(vlm.anatomy.layers) + 1 or vlm.anatomy.head is None:
            raise ModelError(
                f"{type(vlm.model).__name__} hands out no hidden states of its layers, which GLSim compares: "
                "a model that does is expected."
            )
        self._ids, self._states, self._logits = ids, states, output.logits
        self._plain, self._weighed, self._mass = plain, weighed, mass
        self._image, self._head = layout.mask(*VISUAL), vlm.anatomy.head
        self._layers = len(vlm.anatomy.layers)

    def words(self, row: int, end: int, places: Sequence[Tensor], glsim: GLSim) -> Iterator[dict[str, float]]:
        """Of one sample; end: the prompt's last position. places: of the tokens of each word."""
        if any(not len(found) for found in places):
            raise InputError(f"A labelled word of sample {row} of the batch has no token: label words that are read.")
        tokens = torch.cat(list(places))
        found = self._tokens(row, end, tokens, glsim)
        start = 0
        for own in places:
            yield {name: float(value[start : start + len(own)].double().mean()) for name, value in found.items()}
            start += len(own)

    def _tokens(self, row: int, end: int, own: Tensor, glsim: GLSim) -> dict[str, Tensor]:
        """By name the value of each token at the positions `own`."""
        before = own - 1
        ids = self._ids[row, own]
        predicted = torch.log_softmax(self._logits[row, before].float(), -1)
        found = {
            "log-probability": predicted.gather(1, ids[:, None])[:, 0],
            "entropy": (predicted.exp() * predicted).sum(-1),
        }
        image = self._image[row].nonzero().flatten()
        patches = torch.stack([state[row, image] for state in self._states]).float()
        evidence = torch.softmax(self._head(self._states[-1][row, image]).float(), -1)[:, ids].T
        found["lens"] = evidence.amax(1)
        for places, suffix in ((own, ""), (before, BEFORE)):
            found |= {name + suffix: value for name, value in self._read(row, places).items()}
            words = torch.stack([state[row, places] for state in self._states]).float()
            ends = torch.stack([state[row, end] for state in self._states]).float()
            whole, local = glsim.scores(words, patches, ends, evidence)
            parts = {"glsim": glsim.joined(whole, local), "glsim global": whole, "glsim local": local}
            found |= {name + suffix: value for name, value in parts.items()}
        return found

    def _read(self, row: int, places: Tensor) -> dict[str, Tensor]:
        """Grounding scores and attention mass at positions."""
        layers = self._plain.by_layer[:, row, places]
        last = min(4, self._layers)
        weighed = self._weighed.by_layer[:, row, places]
        masses = {layer: value[row, places.to(value.device)] for layer, value in sorted(self._mass.masses.items())}
        return {
            f"grounding last{last}": layers[-last:].mean(0),
            "grounding all": layers.mean(0),
            **{f"grounding layer {layer}": value for layer, value in enumerate(layers)},
            "attention-weighted last4": weighed[-4:].mean(0),
            "attention-weighted all": weighed.mean(0),
            "attention mass": torch.stack(list(masses.values())).mean(0),
            **{f"attention mass layer {layer}": value for layer, value in masses.items()},
        }
