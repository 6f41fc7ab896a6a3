"""Detection of hallucinated words: AUROC by its law, intervals by redrawing, and each signal by its plain formula."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sightline as sl
from sightline.data.shapes_training import DrawnImage
from sightline.data.training_sample import TrainingSample
from sightline.errors import InputError
from sightline.models.vlm import VLM
from sightline.probes.detection.detect import Detection, captioned, evaluate_detectors
from sightline.probes.detection.glsim import GLSim
from sightline.probes.detection.signals import BEFORE
from sightline.probes.grounding import Grounding
from sightline.stats import _redrawn, auroc, auroc_difference, auroc_interval

# AUROC ----------------------------------------------------------------------------------------------------------------

WORDS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=25)


def by_pairs(values: Any, labels: Any) -> float:
    """Every pair of a grounded and a hallucinated word, counted."""
    right = [value for value, label in zip(values, labels, strict=True) if label]
    wrong = [value for value, label in zip(values, labels, strict=True) if not label]
    won = [1.0 if one > other else 0.5 if one == other else 0.0 for one in right for other in wrong]
    return float(np.mean(won)) if won else float("nan")


@settings(max_examples=80, deadline=None)
@given(WORDS)
def test_auroc_counts_pairs(words: list[tuple[int, bool]]) -> None:
    values, labels = zip(*words, strict=True)
    assert auroc(values, labels) == pytest.approx(by_pairs(values, labels), nan_ok=True)
    assert auroc([-value for value in values], labels) == pytest.approx(1 - by_pairs(values, labels), nan_ok=True)
    assert auroc(np.exp(values), labels) == pytest.approx(by_pairs(values, labels), nan_ok=True)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_an_interval_redraws_whole_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.sort(np.r_[np.arange(6), rng.integers(0, 6, 14)])
    values, others, labels = rng.normal(size=20).round(1), rng.normal(size=20), rng.random(20) < 0.5
    labels[:2] = (True, False)
    counts = np.concatenate(list(_redrawn(groups, 40, seed)))
    plain = [by_pairs(np.repeat(values, row.astype(int)), np.repeat(labels, row.astype(int))) for row in counts]
    low, high = np.nanpercentile(plain, [2.5, 97.5])
    assert auroc_interval(values, labels, groups, 40, seed) == pytest.approx((low, high))
    assert all(len(set(row[groups == group])) == 1 for row in counts for group in range(6))
    assert auroc_difference(values, values, labels, groups, 40, seed) == (0.0, (0.0, 0.0))
    delta, (low, high) = auroc_difference(values, others, labels, groups, 40, seed)
    assert delta == pytest.approx(auroc(values, labels) - auroc(others, labels))
    assert low <= high


def test_large_drawings_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.arange(9)
    whole = np.concatenate(list(_redrawn(groups, 30, 1)))
    monkeypatch.setattr("sightline.stats._CHUNK", 20)
    assert np.array_equal(np.concatenate(list(_redrawn(groups, 30, 1))), whole)


# GLSim ----------------------------------------------------------------------------------------------------------------


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other / one.norm() / other.norm())


def test_glsim_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    words, image, end = torch.randn(5, 3, 8), torch.randn(5, 7, 8), torch.randn(5, 8)
    evidence = torch.rand(3, 7)
    spec = GLSim(weight=0.25, patches=2)
    whole, local = spec.scores(words, image, end, evidence)
    for number in range(3):
        near = sorted(range(7), key=lambda patch: -evidence[number, patch])[:2]
        patches = [cosine(words[3, number], image[4, patch]) for patch in near]
        assert float(whole[number]) == pytest.approx(cosine(words[4, number], end[3]), abs=1e-5)
        assert float(local[number]) == pytest.approx(sum(patches) / 2, abs=1e-5)
    assert torch.allclose(spec.joined(whole, local), 0.25 * whole + 0.75 * local)


def test_glsim_takes_the_published_share_of_the_image() -> None:
    assert [GLSim().count(patches) for patches in (576, 36, 1)] == [32, 2, 1]
    assert [GLSim(patches=32).count(patches) for patches in (576, 36, 9)] == [32, 32, 9]
    for wrong in ({"weight": 1.1}, {"weight": float("nan")}, {"patches": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            GLSim(**wrong)  # type: ignore[arg-type]


# Signals --------------------------------------------------------------------------------------------------------------


@cache
def early() -> VLM:
    return sl.load("tiny-llava-early", device="cpu")


def sample(answer: str, *words: tuple[int, int, int], scene: int = 1) -> TrainingSample:
    return TrainingSample(answer, (DrawnImage(scene),), "Describe the image.", answer, words)


SAMPLES = (
    sample("a red circle and a blue star.", (2, 12, 1), (19, 28, 0)),
    sample("a green cross.", (2, 13, 0), scene=2),
    sample("a red circle, a green star, a blue cross and a red square.", (16, 26, 1), (47, 57, 0), scene=3),
)


@cache
def found() -> Detection:
    return evaluate_detectors(early(), SAMPLES, resamples=50)


def test_every_signal_is_read_at_its_place() -> None:
    """The words of the first sample, by one plain pass of the eager model over the same tokens."""
    vlm, told = early(), found().signals
    model, ids = vlm.model, vlm.tokenizer
    asked = replace(SAMPLES[0], words=None).question()
    inputs = vlm.encode([asked], endings=[SAMPLES[0].answer])
    tokens = inputs["input_ids"][0]
    blue = (tokens == ids.convert_tokens_to_ids("blue")).nonzero()[-1].item()
    image = (tokens == model.config.image_token_id).nonzero().flatten()
    kept = model.config.text_config._attn_implementation
    model.set_attn_implementation({"text_config": "eager"})
    try:
        with torch.no_grad():
            output = model(**inputs, output_hidden_states=True, output_attentions=True)
    finally:
        model.set_attn_implementation({"text_config": kept})
    own = torch.tensor([blue, blue + 1])
    assert "star" in ids.decode(tokens[blue + 1])
    logs = torch.log_softmax(output.logits[0].double(), -1)
    expected = {"log-probability": torch.stack([logs[place - 1, tokens[place]] for place in own.tolist()]).mean()}
    expected["entropy"] = (logs.exp() * logs).sum(-1)[own - 1].mean()
    lens = torch.softmax(model.lm_head(output.hidden_states[-1][0, image]).double(), -1)[:, tokens[own]]
    expected["lens"] = lens.amax(0).mean()
    features, states = output.hidden_states[0][0, image], output.hidden_states
    for places, suffix in ((own, ""), (own - 1, BEFORE)):
        expected[f"attention mass layer 5{suffix}"] = output.attentions[5][0, :, places][..., image].sum(-1).mean()
        for layer in (0, 6):
            each = [max(cosine(states[layer + 1][0, place], patch) for patch in features) for place in places]
            expected[f"grounding layer {layer}{suffix}"] = torch.tensor(each).mean()
        end = blue - 6  # before "a red circle and a blue"
        whole = [cosine(states[-1][0, place], states[-2][0, end]) for place in places]
        expected[f"glsim global{suffix}"] = torch.tensor(whole).mean()
        local = []
        for number, place in enumerate(places):
            near = image[lens[:, number].topk(2).indices]
            local.append(np.mean([cosine(states[-2][0, place], states[-1][0, patch]) for patch in near]))
        expected[f"glsim local{suffix}"] = torch.tensor(local).mean()
    for name, value in expected.items():
        assert told.values[name][1] == pytest.approx(float(value.detach()), abs=2e-5), name
    joined = 0.6 * told.values["glsim global"] + 0.4 * told.values["glsim local"]
    assert np.allclose(told.values["glsim"], joined)
    last = np.mean([told.values[f"grounding layer {layer}"] for layer in range(4, 8)], axis=0)
    assert np.allclose(told.values["grounding last4"], last)


def test_padding_and_company_change_nothing() -> None:
    alone = evaluate_detectors(early(), SAMPLES, batch=1, resamples=0)
    for name, values in found().signals.values.items():
        assert np.allclose(alone.signals.values[name], values, atol=1e-5), name
    assert alone["lens"].ci95 is None
    assert alone.signals.labels.tolist() == [1, 0, 0, 1, 0]
    assert alone.signals.images.tolist() == [0, 0, 1, 2, 2]


def test_what_is_told() -> None:
    told = found().to_dict()
    assert (told["grounded"], told["hallucinated"], told["images"]) == (2, 3, 3)
    labels = found().signals.labels
    for name, detector in found().detectors.items():
        assert detector.auroc == pytest.approx(by_pairs(found().signals.values[name], labels))
        assert told["detectors"][name]["auroc"] == detector.auroc
    assert found().difference("lens", "lens", 20) == (0.0, (0.0, 0.0))
    with pytest.raises(InputError, match="no detector 'guess': give one of log-probability"):
        found()["guess"]


def test_scores_are_those_told_while_generating() -> None:
    """Of what the model itself says; each word that is one token has the score of its token."""
    vlm = early()
    inputs = vlm.encode([replace(SAMPLES[0], words=None).question()])
    with Grounding().on(vlm) as probe:
        rows = vlm.generate_tokens(inputs, max_new_tokens=12)
    tokens = probe.result()[0]

    def label(sample: TrainingSample, text: str) -> list[tuple[int, int, int]]:
        places = [index for index, character in enumerate(" " + text) if character == " "]
        return [
            (place + 2, place + 3, number % 2) for number, place in enumerate(places) if text[place : place + 2] == "a "
        ]

    said = captioned(vlm, [SAMPLES[0]], label, new_tokens=12)
    assert said[0].answer == vlm.tokenizer.decode(rows[0], skip_special_tokens=True).strip()
    assert len(said[0].words or ()) >= 2
    read = evaluate_detectors(vlm, said, resamples=0).signals.values["grounding last4"]
    after = [tokens[number + 1].score for number, token in enumerate(tokens[:-1]) if token.text.strip() == "a"]
    assert np.allclose(read, after[: len(read)], atol=1e-5)


def test_what_can_not_be_is_said_in_a_sentence() -> None:
    with pytest.raises(InputError, match="2 grounded and 0 hallucinated words: AUROC needs some of both"):
        evaluate_detectors(early(), [replace(SAMPLES[0], words=((2, 5, 1), (6, 12, 1)))])
    with pytest.raises(InputError, match="Not one answer has a labelled word"):
        evaluate_detectors(early(), [])
    with pytest.raises(InputError, match="Not one answer has a labelled word"):
        evaluate_detectors(early(), [replace(SAMPLES[0], words=())])
    with pytest.raises(InputError, match="has no token"):
        evaluate_detectors(early(), [replace(SAMPLES[0], words=((1, 2, 1), (6, 12, 0)))])
    assert captioned(early(), [SAMPLES[0]], lambda sample, text: (), new_tokens=2) == []
