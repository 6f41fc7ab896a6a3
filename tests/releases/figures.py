"""Figures of one bundled scene, which every release of Transformers must give.

python tests/releases/figures.py     # records them anew, with the release that is installed
"""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import sightline as sl

RECORDED = Path(__file__).parent / "figures.json"

SINKS = (14, 79)
"""Dimensions that are taken for those of sinks, so that VAR has something to take from."""


def readings() -> dict[str, Any]:
    """MDI with and without VAR, VCD's answer and scores, a causal and a local map, and grounding, of one scene."""
    import torch

    from sightline.zoo import shapes_samples

    vlm = sl.load("tiny-llava")
    scene = next(iter(shapes_samples(1, seed=3, kind="caption")))
    sample = sl.Sample(image=scene["image"], prompt=scene["prompt"])
    inputs = vlm.encode(sample)
    var = sl.VAR(dims=SINKS, tau=2.0, rho=1.0, summ=0.0, p=0.3)
    found: dict[str, Any] = {"answer": vlm.generate(inputs, max_new_tokens=6)}
    for name, method in {"dominance": None, "var": var}.items():
        with sl.Dominance().on(vlm) as probe:
            if method is None:
                vlm.generate(inputs, max_new_tokens=6)
            else:
                with method.on(vlm):
                    vlm.generate(inputs, max_new_tokens=6)
        layers = probe.result().to_dict()["layers"]
        found[name] = {key: [layer[key] for layer in layers] for key in ("mdi", "aei")}
    with sl.VCD(beta=0.001).on(vlm), torch.no_grad():
        output = vlm.model.generate(
            **inputs, max_new_tokens=6, do_sample=False, output_scores=True, return_dict_in_generate=True
        )
    found["vcd"] = [[value for value in step[0].topk(3).values.tolist() if value > -inf] for step in output.scores]
    found["causal"] = sl.impact(vlm, sample, "causal", tokens="image", layers=[1, 5]).to_dict()["maps"]
    found["local"] = sl.impact(vlm, sample, "local", tokens="image", layers=[1, 5]).to_dict()["maps"]
    with sl.Grounding().on(vlm) as grounding:
        vlm.generate(inputs, max_new_tokens=6)
    found["grounding"] = [token.score for token in grounding.result()[0]]
    return found


if __name__ == "__main__":
    # Six places: more would change with the processor.
    rounded = json.loads(json.dumps(readings()), parse_float=lambda digits: round(float(digits), 6))
    RECORDED.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
