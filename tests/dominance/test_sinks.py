"""MDI without sinks, where the sinks were found: text and image tokens alike are left out, layer by layer."""

from __future__ import annotations

import pytest
import torch

from families import BY_NAME, IMAGE, TEXT
from sightline.probes.dominance import Dominance, SampleDominance, aggregate
from sightline.probes.sinks import Sinks
from sinks.planted import build_planted, planted_case

GREEDY = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}


@pytest.mark.parametrize("queries", ["generated", "prompt", "all"])
def test_found_sinks_are_left_out(queries: str) -> None:
    model = build_planted((3, 17))
    case = planted_case(batch=2, padding="left", images=2)
    sinks = Sinks("planted", (3, 17), 2.3)
    with torch.no_grad(), Dominance(queries=queries, sinks=sinks).on(model) as probe:  # type: ignore[arg-type]
        model.generate(**case.inputs, **GREEDY)
    with torch.no_grad(), Dominance(queries=queries).on(model) as plain:  # type: ignore[arg-type]
        model.generate(**case.inputs, **GREEDY)
    modality = torch.tensor(case.modality)
    for index, (ours, before) in enumerate(zip(probe.result().samples, plain.result().samples, strict=True)):
        assert SampleDominance.from_dict(ours.to_dict()) == ours
        for layer, same in zip(ours.layers, before.layers, strict=True):
            assert ours.mdi(layer) == pytest.approx(before.mdi(same))
            if layer.layer < 2:
                # What is left of the text beside BOS is near nothing: the masses' rounding shows in it.
                assert ours.mdi(layer, with_sinks=False) == pytest.approx(before.mdi(same, with_sinks=False), abs=1e-6)
                assert layer.sinks == {}
                continue
            assert layer.sinks == {"text_sinks": 1, "image_sinks": 4}
            # Two of nine patches of each image; nearly all attention falls on them and BOS.
            assert layer.masses["image_sinks"] > 0.9 * layer.masses["image"] > 0
            text, image = (int((modality[index] == kind).sum()) for kind in (TEXT, IMAGE))
            text_mass = layer.masses["text"] - layer.masses["text_sinks"]
            image_mass = layer.masses["image"] - layer.masses["image_sinks"]
            expected = (text_mass / (text - 1)) / (image_mass / (image - 4))
            assert ours.mdi(layer, with_sinks=False) == pytest.approx(expected)
    assert aggregate(probe.result().samples, "m").to_dict()["layers"][2]["mdi_no_sinks"] is not None


def test_a_model_without_sinks_is_measured_as_before() -> None:
    family = BY_NAME["llava"]
    case = family.make_inputs()
    found = []
    for sinks in (None, Sinks("llava", (), 20.0)):
        with torch.no_grad(), Dominance(queries="prompt", sinks=sinks).on(family.model()) as probe:
            family.model()(**case.inputs)
        found.append(probe.result().samples)
    assert found[0] == found[1]
