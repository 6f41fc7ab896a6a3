"""The language loss of training: from the logits of answers alone, and the same as from all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sightline as sl
from families import BY_NAME
from sightline.errors import InputError, SightlineWarning
from sightline.training.collator import IGNORED_TOKEN
from sightline.training.language import ROWS_AT_ONCE, language_pass, mean_loss


def batch_of(family: str) -> dict[str, torch.Tensor]:
    """Two padded prompts whose last words are to be predicted, as many as differ."""
    inputs = dict(BY_NAME[family].make_inputs(batch=2, padding="right").inputs)
    labels = torch.full_like(inputs["input_ids"], IGNORED_TOKEN)
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        labels[row, length - 2 - row : length] = inputs["input_ids"][row, length - 2 - row : length]
    return {**inputs, "labels": labels}


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: value for name, value in zip(parameters, found, strict=True) if value is not None}


@pytest.mark.parametrize("family", ["llava", "llava_onevision", "qwen2_5_vl", "qwen3_vl_moe", "gemma3", "paligemma"])
def test_loss_and_gradients_are_those_of_the_models_own_loss(family: str) -> None:
    model, batch = BY_NAME[family].model(), batch_of(family)
    plain = model(**batch).loss
    seen: list[int] = []
    head = model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    mine = language_pass(model, model, batch).loss
    hook.remove()
    assert mine.item() == pytest.approx(plain.item(), rel=1e-5)
    expected = gradients(model, plain)
    found = gradients(model, mine)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-5), name
    assert seen == [int((batch["labels"][:, 1:] != IGNORED_TOKEN).any(0).sum())], "no other position has logits"


def test_without_words_to_predict_one_position_alone_has_logits() -> None:
    model, batch = BY_NAME["llava"].model(), batch_of("llava")
    labels = batch.pop("labels")
    assert language_pass(model, model, batch).logits.shape[1] == 1
    nothing = language_pass(model, model, {**batch, "labels": torch.full_like(labels, IGNORED_TOKEN)})
    assert nothing.loss.item() == 0
    assert nothing.loss.requires_grad


def test_a_model_that_computes_all_logits_keeps_its_own_loss() -> None:
    model, batch = BY_NAME["blip2"].model(), batch_of("blip2")
    assert torch.equal(language_pass(model, model, batch).loss, model(**batch).loss)


def test_parts_add_up() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 2 * ROWS_AT_ONCE, 7, dtype=torch.float64).float()
    wanted = torch.randint(0, 7, logits.shape[:2])
    wanted[0, ::3] = IGNORED_TOKEN
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED_TOKEN)
    assert mean_loss(logits, wanted).item() == pytest.approx(plain.item(), rel=1e-6)


def test_weights_stored_in_float16_are_trained_in_bfloat16_and_it_is_said(tmp_path: Path) -> None:
    vlm = sl.load("tiny-llava-early", dtype="float16")
    vlm.model.save_pretrained(tmp_path / "half")
    vlm.processor.save_pretrained(tmp_path / "half")
    options: dict[str, Any] = {"limit": 2, "steps": 1, "batch_size": 2, "eval_limit": 0, "save_steps": 0}
    with pytest.warns(SightlineWarning, match=r"stored in float16, .* in bfloat16"):
        found = sl.train(str(tmp_path / "half"), "shapes", out=tmp_path / "out", **options)
    assert found.to_dict()["losses"]["language"]["first"] > 0
    assert sl.load(found.folder).model.dtype == torch.bfloat16
    from sightline.jobs.settings import ModelSettings

    with pytest.raises(InputError, match=r"in float16, .* give bfloat16"):
        sl.train("gone", "shapes", out=tmp_path / "no", loading=ModelSettings(dtype="float16"), **options)
