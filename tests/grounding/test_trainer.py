"""Training: what a step's loss is however it is cut, going on after a kill, and results that load."""

from __future__ import annotations

import errno
import json
import os
import socket
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

import sightline as sl
from sightline.data.shapes_training import shapes_training
from sightline.data.training_sample import TrainingSample
from sightline.errors import InputError, ModelError, RunError, SightlineError
from sightline.training.checkpoints import PREFIX, checkpoints, is_whole, last_whole
from sightline.training.collator import Collator, TrainingSet
from sightline.training.folder import logged
from sightline.training.settings import TrainSettings
from sightline.training.state import TrainingEvaluation
from sightline.training.trainer import TrainResult, train_model

MODEL = "tiny-llava-early"
BASE = TrainSettings(
    steps=2, batch_size=4, learning_rate=1e-3, log_steps=1, save_steps=0, eval_limit=0, negatives="both", layers="last2"
)


@cache
def samples() -> tuple[TrainingSample, ...]:
    """Scenes, most with a false caption."""
    return tuple(shapes_training(24, seed=3))


def run(out: Path, settings: TrainSettings, **options: Any) -> TrainResult:
    return train_model(options.pop("model", MODEL), options.pop("samples", samples()), settings, out, **options)


def losses(result: TrainResult, name: str = "loss") -> list[float]:
    return [line[name] for line in result.log if name in line]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Four steps at once, with checkpoints."""
    return run(tmp_path_factory.mktemp("plain") / "out", replace(BASE, steps=4, save_steps=2))


def test_a_trained_folder_loads_and_has_changed(plain: TrainResult) -> None:
    before, after = sl.load(MODEL, device="cpu"), sl.load(plain.folder, device="cpu")
    sample = samples()[0].question()
    assert isinstance(after.generate(after.encode(sample), max_new_tokens=3), str)
    old, new = before.model.state_dict(), after.model.state_dict()
    assert old.keys() == new.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert any("multi_modal_projector" in name for name in changed)
    assert any("language_model" in name for name in changed)
    assert not any("vision_tower" in name for name in changed)


def test_every_term_is_logged_and_adds_up(plain: TrainResult) -> None:
    for line in (line for line in plain.log if "loss" in line):
        total = line["language"] + 0.5 * line["ground"] + 0.1 * line["contrast"]
        assert line["loss"] == pytest.approx(total, rel=1e-4)
        assert -1 <= line["hallucinated"] <= 1
    assert set(plain.losses) == {"loss", "language", "ground", "contrast", "grounded", "hallucinated"}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Two steps of four samples."""
    return run(tmp_path_factory.mktemp("short") / "out", BASE)


def test_accumulated_steps_are_those_of_one_large_batch(short: TrainResult, tmp_path: Path) -> None:
    cut = run(tmp_path / "out", replace(BASE, batch_size=1, accumulation=4))
    for name in ("loss", "language", "ground", "contrast", "grounded", "hallucinated", "grad_norm"):
        assert losses(cut, name) == pytest.approx(losses(short, name), rel=2e-4, abs=1e-6), name


def test_a_step_of_long_samples_goes_in_several_passes(
    short: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.training.collator.MOST_POSITIONS", 150)
    passes: list[int] = []
    counted = Collator.__call__
    monkeypatch.setattr(Collator, "__call__", lambda self, many: passes.append(len(many)) or counted(self, many))
    cut = run(tmp_path / "cut", BASE)
    assert max(passes) == 2
    assert losses(cut) == pytest.approx(losses(short), rel=1e-4)


def test_gradient_checkpointing_counts_each_score_once(short: TrainResult, tmp_path: Path) -> None:
    found = run(tmp_path / "out", replace(BASE, checkpointing=True))
    for name in ("loss", "ground", "contrast", "grad_norm"):
        assert losses(found, name) == pytest.approx(losses(short, name), rel=1e-4), name


def test_without_grounding_the_language_loss_is_the_same_and_alone(plain: TrainResult, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "checkpoints").mkdir(parents=True)  # as a kill leaves it that comes before the first file
    found = run(out, replace(BASE, steps=1, log_steps=10).without_grounding())
    assert losses(found)[0] == pytest.approx(losses(plain, "language")[0], rel=1e-5)
    assert not losses(found, "ground")


def test_a_resumed_training_goes_on_bit_by_bit(plain: TrainResult, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", replace(BASE, steps=4, save_steps=2)
    with pytest.raises(_KilledError):
        run(out, settings, on_line=_killing(3))
    resumed = run(out, settings, resume=True)
    assert resumed.resumed_from == 2
    assert losses(resumed) == losses(plain)
    assert losses(resumed, "ground") == losses(plain, "ground")
    one, other = (sl.load(result.folder, device="cpu").model.state_dict() for result in (resumed, plain))
    assert all(torch.equal(one[name], other[name]) for name in one)


class _KilledError(Exception):
    """Stands in for a kill."""


def _killing(step: int) -> Any:
    def tell(line: Any) -> None:
        if line["step"] == step:
            raise _KilledError

    return tell


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(plain: TrainResult, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "out"
    shutil.copytree(plain.folder, out)
    second = out / "checkpoints" / f"{PREFIX}4"
    for name in ("model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"):
        whole = (second / name).read_bytes()
        (second / name).write_bytes(whole[: len(whole) // 2])
        assert last_whole(second.parent) == second.parent / f"{PREFIX}2", name
        (second / name).write_bytes(whole)
    assert is_whole(second)
    (second / "sealed.json").unlink()
    resumed = run(out, replace(BASE, steps=4, save_steps=2), resume=True)
    assert resumed.resumed_from == 2
    assert losses(resumed) == losses(plain)
    assert checkpoints(out / "checkpoints")[-1] == second
    assert is_whole(second)


FULL = (
    OSError(errno.ENOSPC, "No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("[enforce fail at inline_container.cc:659] . PytorchStreamWriter failed writing file data/3: file"),
)


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_a_full_disk_is_one_sentence_by_whichever_library(plain: TrainResult, tmp_path: Path, error: Exception) -> None:
    for folder, kept in ((plain.folder, "the checkpoint of step 4 is kept there"), (tmp_path, "no checkpoint")):
        with pytest.raises(RunError, match=f"the disk is full; {kept}.*--resume"), logged(folder, {}, None):
            raise error
        assert "ERROR ended by RunError" in (folder / "run.log").read_text().splitlines()[-1]


def test_the_log_says_who_trains_what_and_that_it_ended(plain: TrainResult) -> None:
    lines = (plain.folder / "run.log").read_text().splitlines()
    assert "train begun by" in lines[0]
    assert '"learning_rate": 0.001' in lines[1]
    assert any(line.endswith("INFO ended, checkpoint-2; checkpoint-4") for line in lines)


@pytest.mark.parametrize("spoiled", ['{"settings": []}', '{"about": 3}', "[]", "{", "[" * 100_000])
def test_a_description_of_another_kind_is_refused(tmp_path: Path, spoiled: str) -> None:
    (tmp_path / "training.json").write_text(spoiled)
    with pytest.raises(InputError, match=r"damaged|holds something else|had model None"):
        run(tmp_path, BASE, resume=True)


def test_a_folder_is_held_to_its_settings(plain: TrainResult) -> None:
    settings = replace(BASE, steps=4, save_steps=2)
    with pytest.raises(InputError, match="holds a training already"):
        run(plain.folder, settings)
    with pytest.raises(InputError, match=r"had margin 0.5 and not 0.4"):
        run(plain.folder, replace(settings, margin=0.4), resume=True)
    assert run(plain.folder, replace(settings, report_to="none", eval_limit=3), resume=True).steps == 4


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (2, r"The weights are not numbers any more after step 2, on the samples shapes-3-\d+, .*checkpoint-1, is kept"),
        (0, r"The loss is not a number at step 1, on the samples shapes-3-\d+, .*no checkpoint was saved before"),
    ],
)
def test_nan_stops_with_the_step_and_the_samples(tmp_path: Path, spoilt: int, said: str) -> None:
    vlm = sl.load(MODEL, device="cpu")

    def poison(line: Any) -> None:
        if line["step"] == spoilt:
            with torch.no_grad():
                vlm.anatomy.layers[-1].mlp.down_proj.weight.fill_(float("nan"))

    poison({"step": 0})
    out = tmp_path / "out"
    with pytest.raises(SightlineError, match=said):
        run(out, replace(BASE, steps=3, save_steps=1), model=vlm, on_line=poison)
    assert last_whole(out / "checkpoints") == (out / "checkpoints" / f"{PREFIX}1" if spoilt else None)


def test_lora_trains_the_decoder_and_merges(tmp_path: Path) -> None:
    from sightline.training.adapters import target_names

    before = sl.load(MODEL, device="cpu")
    names = target_names(before.anatomy)
    assert len(names) == 8 * 7
    assert not any("vision" in name or "projector" in name for name in names)
    settings = replace(BASE, method="lora", lora_rank=4, save_steps=1)
    found = run(tmp_path / "out", settings)
    after = sl.load(found.folder, device="cpu")
    old, new = before.model.state_dict(), after.model.state_dict()
    assert old.keys() == new.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert all("language_model.layers" in name or "projector" in name for name in changed)
    assert any("q_proj" in name for name in changed)
    assert any("projector" in name for name in changed)
    assert (found.folder / "adapter" / "adapter_model.safetensors").is_file()
    again = run(found.folder, settings, resume=True)
    assert again.resumed_from == 2
    merged = sl.load(again.folder, device="cpu").model.state_dict()
    assert all(torch.allclose(merged[name], new[name], atol=1e-6) for name in new)


def test_qlora_is_refused_without_a_gpu(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match=r"bitsandbytes|CUDA"):
        run(tmp_path / "out", replace(BASE, method="qlora"))
    with pytest.raises(InputError, match="trains a 4-bit model"):
        run(tmp_path / "other", replace(BASE, method="qlora"), model=sl.load(MODEL, device="cpu"))


def test_a_learned_head_is_trained_saved_and_resumed(tmp_path: Path) -> None:
    from sightline.probes.grounding import GroundingHead

    settings = replace(BASE, projection="linear", save_steps=1)
    found = run(tmp_path / "out", settings)
    head = GroundingHead.load(found.folder)
    assert any(not torch.equal(linear.weight, torch.eye(128)) for linear in head.projections)
    again = run(found.folder, settings, resume=True)
    new = GroundingHead.load(again.folder).state_dict()
    assert all(torch.equal(value, new[name]) for name, value in head.state_dict().items())
    vlm = sl.load(found.folder, device="cpu")
    assert "grounding_head" not in dict(vlm.model.named_children())
    with settings.grounding().on(vlm) as probe:
        vlm.generate(vlm.encode(samples()[0].question()), max_new_tokens=3)
    assert probe.result()


def test_evaluations_are_made_before_between_and_after_and_the_best_is_kept(tmp_path: Path) -> None:
    scores = iter([0.5, 0.9, 0.1, 0.2])
    states = []

    def evaluate(vlm: Any) -> TrainingEvaluation:
        assert not vlm.model.training
        torch.manual_seed(99)  # an evaluation may draw; the training must not notice
        states.append(vlm.anatomy.layers[0].mlp.up_proj.weight.detach().clone())
        score = next(scores)
        return TrainingEvaluation({"toy": score}, score)

    settings = replace(BASE, steps=3, eval_steps=1, keep="best", save_steps=0)
    found = run(tmp_path / "out", settings, evaluate=evaluate)
    assert [(one.step, one.score) for one in found.evaluations] == [(0, 0.5), (1, 0.9), (2, 0.1), (3, 0.2)]
    assert found.kept_step == 1
    kept = sl.load(found.folder, device="cpu").anatomy.layers[0].mlp.up_proj.weight
    assert torch.equal(kept, states[1])
    assert torch.equal(states[3], states[1])
    told = json.loads((found.folder / "evaluations.json").read_text())
    assert [one["figures"] for one in told] == [{"toy": 0.5}, {"toy": 0.9}, {"toy": 0.1}, {"toy": 0.2}]


def test_unusable_samples_are_passed_over_and_told(tmp_path: Path) -> None:
    good = samples()[0]
    odd = replace(good, id="special", answer="a red </s> circle")
    torn = replace(good, id="torn", images=(b"not an image",))
    found = run(tmp_path / "out", replace(BASE, steps=2, batch_size=2), samples=(odd, torn, good))
    told = {line.where: line.error for line in found.passed_over}
    assert "</s>" in told["special"]
    assert "not an image" in told["torn"]
    with pytest.raises(InputError, match="Not one sample can be trained on"):
        run(tmp_path / "none", BASE, samples=(odd,))


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3", "no template"])
def test_other_families_are_trained_and_load(tmp_path: Path, family: str) -> None:
    import model_folders

    folder = tmp_path / "model"
    if family == "qwen2_vl":  # without torchvision its processor is loaded without its video part
        model_folders.save_qwen(folder, family, "Qwen2VLProcessor")
    elif family == "gemma3":
        model_folders.save_gemma3(folder)
    else:
        model_folders.save_llava(folder, chat=False)
    model_folders.load_or_skip(folder)
    odd = [replace(sample, answer=f"{sample.answer} été 🐕") for sample in samples()[:4]]
    settings = replace(BASE, steps=1, layers="last1", checkpointing=True, batch_size=2)
    found = run(tmp_path / "out", settings, model=str(folder), samples=odd)
    assert losses(found, "ground")
    vlm = sl.load(found.folder, device="cpu")
    assert vlm.generate_tokens(vlm.encode(odd[0].question()), max_new_tokens=2)


def test_layers_and_reporters_that_are_not_there_leave_the_folder_free(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="Layer 28"):
        run(out, replace(BASE, layers="28"))
    with pytest.raises(InputError, match="Layer 28"):  # and not: the folder holds a training already
        run(out, replace(BASE, layers="28"))
    assert not list(out.iterdir())
    with pytest.raises(InputError, match="report_to is trackio"):
        run(tmp_path / "other", replace(BASE, report_to="trackio"))


def test_float16_weights_are_refused(tmp_path: Path) -> None:
    vlm = sl.load(MODEL, device="cpu", dtype="float16")
    with pytest.raises(InputError, match=r"loaded in float16, .*--dtype bfloat16"):
        run(tmp_path / "out", BASE, model=vlm)


def test_labels_fall_on_the_answers_words_alone() -> None:
    vlm = sl.load(MODEL, device="cpu")
    collator = Collator(vlm)
    many = [sample for sample in samples() if sample.negative is not None][:4]
    data = TrainingSet(many)
    batch = collator([data[number] for number in range(len(many))])
    for row, sample in enumerate(many):
        ids, labels = batch["input_ids"][row], batch["labels"][row]
        said = vlm.tokenizer.decode(labels[labels >= 0]).replace("</s>", "").replace(" ", "")
        assert said == sample.answer.replace(" ", "")
        words = [vlm.tokenizer.decode([int(token)]) for token in ids[batch["grounding"][row] == 1]]
        assert words == [sample.answer[start:end] for start, end, _ in sample.labelled]
        assert (batch["grounding"][row][labels < 0] == -1).all()
    negative = batch["negative"]
    for row, owner in enumerate(negative["owners"].tolist()):
        wrong = negative["input_ids"][row][negative["grounding"][row] == 0]
        told = [many[owner].negative[start:end] for start, end, label in many[owner].negative_words if label == 0]
        assert vlm.tokenizer.decode(wrong) == " ".join(told)
    alone = collator([data[0]])
    assert torch.equal(alone["input_ids"][0], batch["input_ids"][0][: alone["input_ids"].shape[1]])


def _in_process(rank: int, out: Path, port: int) -> None:
    """One of two processes, as torchrun starts them."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    run(out, replace(BASE, batch_size=BASE.batch_size // 2))
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_loss_of_one(short: TrainResult, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    out = tmp_path / "double"
    processes = [get_context("fork").Process(target=_in_process, args=(rank, out, port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for name in ("loss", "language", "ground", "contrast", "grad_norm"):
        both = [line[name] for line in lines if "loss" in line]
        assert both == pytest.approx(losses(short, name), abs=1e-4), name
    one, other = (sl.load(folder, device="cpu").model.state_dict() for folder in (short.folder, out))
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
