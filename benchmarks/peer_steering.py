"""VCD and PAI as Sightline and as MitigV have them, for `peers.py`: a run gives the tokens of the answer."""

from __future__ import annotations

from typing import Any

import torch
from peer_runs import Case, Run, twin
from torch import Tensor

from sightline.methods.vcd import VCD, add_noise


def sightline_steering(case: Case, method: Any) -> Run:
    """`generate` inside the method."""

    def run() -> Tensor:
        with method.on(case.model):
            return case.model.generate(**case.inputs, **case.generating)[0, -case.new_tokens :]

    return run


class Processor:
    """Stands before MitigV as a processor does: the case's prompt, with its pictures or without."""

    eos_token_id = None

    def __init__(self, case: Case, image_id: int) -> None:
        self.case, self.image_id = case, image_id

    def __call__(self, text: str, images: Any = None, **options: Any) -> dict[str, Tensor]:
        if images is not None:
            return dict(self.case.inputs)
        ids = self.case.inputs["input_ids"]
        ids = ids[ids != self.image_id][None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def batch_decode(self, ids: Tensor, **options: Any) -> list[str]:
        """The ids themselves."""
        return [" ".join(map(str, row.tolist())) for row in ids]


def mitigv_steering(case: Case, name: str, attention: str | None = None, **settings: Any) -> Run:
    """Its own loop over its own passes, on the noise that Sightline puts on the pictures."""
    from mitigv.api import load_mitigator
    from mitigv.perturbations import Perturbation, list_perturbations, register_perturbation

    if "as_sightline" not in list_perturbations():

        class AsSightline(Perturbation):  # type: ignore[misc]
            name = "as_sightline"

            def __call__(self, image: Tensor) -> Tensor:
                return add_noise(image, VCD().step)

        register_perturbation(AsSightline)
    model = twin(case.model, attention)
    # Where 0.1.7 looks for the decoder, and Transformers has it no longer.
    vars(model)["language_model"] = model.model.language_model
    method = load_mitigator(
        name,
        model=model,
        processor=Processor(case, int(model.config.image_token_id)),
        model_type="llava",
        max_new_tokens=case.new_tokens,
        do_sample=False,
        **settings,
    )
    return lambda: torch.tensor(list(map(int, method.generate(object(), "<image> ").split())))
