"""Answers to lmms-eval's requests; with lmms-eval installed, a small local task of it from end to end."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

import sightline as sl
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.integrations.lmms import manifest
from sightline.integrations.lmms.answers import NEW_TOKENS, AnswerRequest, answer_all, request_of

PICTURE = Image.new("RGB", (8, 8))


@dataclass
class Echo:
    """A stand-in for a VLM: answers a question with its words, and fails as it is told."""

    fits: int = 100
    refuses: str = "no such words"

    def __post_init__(self) -> None:
        self.batches: list[list[str]] = []
        self.options: list[dict[str, Any]] = []

    def prepare(self, samples: list[Sample], allow_text_only: bool) -> list[str]:
        assert allow_text_only
        assert len({bool(sample.images) for sample in samples}) == 1
        if any(self.refuses in sample.prompt for sample in samples):
            raise InputError("The image is broken.")
        return [sample.prompt for sample in samples]

    def encode(self, ready: list[str]) -> list[str]:
        return ready

    def generate(self, inputs: list[str], **options: Any) -> Any:
        if len(inputs) > self.fits:
            raise MemoryError
        self.batches.append(inputs)
        self.options.append(options)
        return inputs[0] if len(inputs) == 1 else inputs


def asked(*prompts: str, settings: Any = None, visuals: Any = (PICTURE,)) -> list[AnswerRequest | None]:
    return [request_of(prompt, settings or {}, list(visuals), str(place)) for place, prompt in enumerate(prompts)]


def answers(
    vlm: Echo, requests: list[AnswerRequest | None], batch_size: int = 4
) -> tuple[list[str], list[int], list[int]]:
    told: list[int] = []
    failed: list[int] = []
    texts = answer_all(
        vlm,  # type: ignore[arg-type]
        None,
        requests,
        batch_size,
        lambda place, answer: told.append(place),
        lambda place, error: failed.append(place),
    )
    return texts, told, failed


def test_answers_keep_the_order_of_the_questions() -> None:
    prompts = ["a", "a long question", "a question", "b", "ccc"]
    vlm = Echo()
    texts, told, failed = answers(vlm, asked(*prompts), batch_size=2)
    assert texts == prompts
    assert sorted(told) == [0, 1, 2, 3, 4]
    assert failed == []
    assert vlm.batches[0] == ["a long question", "a question"]


def test_too_little_memory_halves_the_batch() -> None:
    prompts = [f"question {place}" for place in range(7)]
    vlm = Echo(fits=2)
    assert answers(vlm, asked(*prompts), batch_size=7)[0] == prompts
    assert max(map(len, vlm.batches)) == 2
    with pytest.raises(MemoryError):
        answers(Echo(fits=0), asked("a", "b"))


def test_a_bad_question_fails_alone() -> None:
    requests = [*asked("a", "b broken", "c"), None]
    texts, told, failed = answers(Echo(refuses="broken"), requests)
    assert texts == ["a", "", "c", ""]
    assert (sorted(told), failed) == ([0, 2], [1])


def test_questions_of_one_kind_share_a_batch() -> None:
    requests = [*asked("a"), *asked("b", visuals=()), *asked("c", settings={"temperature": 0.7}), *asked("d")]
    vlm = Echo()
    assert answers(vlm, requests)[0] == ["a", "b", "c", "d"]
    assert vlm.batches == [["a", "d"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {"max_new_tokens": NEW_TOKENS}),
        ({"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "do_sample": False}, {"num_beams": 1}),
        ({"temperature": 0, "do_sample": True}, {}),
        ({"temperature": 0.5, "top_p": 0.9}, {"do_sample": True, "temperature": 0.5, "top_p": 0.9}),
        ({"do_sample": True}, {"do_sample": True}),
        ({"temperature": 0.5, "do_sample": False}, {}),
        ({"image_aspect_ratio": "pad", "until": ["\n\n"], "top_k": None}, {}),
    ],
)
def test_generation_settings(settings: dict[str, Any], options: dict[str, Any]) -> None:
    (request,) = asked("a", settings=settings)
    assert request is not None
    assert dict(request.options) == {"max_new_tokens": settings.get("max_new_tokens", NEW_TOKENS), **options}


@pytest.mark.parametrize(
    ("until", "answer"),
    [
        ((), "one. two\n\nthree"),
        ("\n\n", "one. two"),
        (["\n\n", "."], "one"),
        ([""], "one. two\n\nthree"),
        (None, None),
    ],
)
def test_an_answer_ends_before_the_stop_strings(until: Any, answer: str | None) -> None:
    text = "one. two\n\nthree"
    assert answers(Echo(), asked(text, settings={"until": until}))[0] == [answer or text]


def test_visuals() -> None:
    nested = request_of("<image> or <image>?", {}, [[PICTURE], (PICTURE,), None], "q")
    assert len(nested.sample.images) == 2
    assert nested.sample.prompt == "<image> or <image>?"
    assert request_of("<image> what?", {}, [PICTURE, PICTURE], "q").sample.prompt == " what?"
    assert request_of("what?", {}, None, "q").sample.images == ()
    with pytest.raises(InputError, match="Question pope/3 comes with str instead of an image"):
        request_of("what?", {}, ["video.mp4"], "pope/3")
    with pytest.raises(InputError, match="prompt of sample 'pope/3' is empty"):
        request_of(" ", {}, [PICTURE], "pope/3")


# The model class ------------------------------------------------------------------------------------------------------


class Base:
    """What lmms-eval's base class gives a model, as far as ours uses it."""

    def __init__(self) -> None:
        self._rank, self._world_size = 0, 1
        self.task_dict: dict[str, Any] = {}
        self.cache_hook = types.SimpleNamespace(add_partial=lambda *arguments: None)

    rank = property(lambda self: self._rank)


@dataclass(frozen=True)
class Manifest:
    model_id: str
    simple_class_path: str


@pytest.fixture
def model_class(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Our class on a stand-in for lmms-eval; the real one is tested below, where it is installed."""
    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model", "lmms_eval.models", "lmms_eval.models.registry_v2")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["lmms_eval.api.model"].lmms = Base  # type: ignore[attr-defined]
    sys.modules["lmms_eval.models.registry_v2"].ModelManifest = Manifest  # type: ignore[attr-defined]
    loguru = types.ModuleType("loguru")
    loguru.logger = types.SimpleNamespace(error=lambda words: None)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "loguru", loguru)
    monkeypatch.delitem(sys.modules, "sightline.integrations.lmms.model", raising=False)
    module, name = manifest().simple_class_path.rsplit(".", 1)
    yield getattr(__import__(module, fromlist=[name]), name)
    sys.modules.pop("sightline.integrations.lmms.model", None)


@dataclass(frozen=True)
class Task:
    """The request of one document, as lmms-eval hands it to a simple model."""

    args: tuple[Any, ...]
    settings: ClassVar[dict[str, Any]] = {"max_new_tokens": 4, "until": ["\n\n"]}

    @classmethod
    def of(cls, place: int, words: str) -> Task:
        return cls((words, dict(cls.settings), lambda row: [row["image"]], place, "colours", "test"))


def test_the_model_answers_as_the_vlm_does(model_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_class(pretrained="tiny-llava", method='"pai:alpha=0.3"', batch_size="2", device="cpu")
    rows = [{"image": Image.new("RGB", (32, 32), colour)} for colour in ("red", "blue", "green")]
    model.task_dict = {"colours": {"test": [*rows, {"image": "film.mp4"}]}}
    words = ["what is here ?", "is there a circle ?", "what is here ?"]
    entered: list[str] = []
    kind = type(model.method)
    plain_on = kind.on

    @contextmanager
    def counted(method: Any, vlm: Any, layout: Any = None) -> Iterator[Any]:
        entered.append(method.spec())
        with plain_on(method, vlm) as inside:
            yield inside

    monkeypatch.setattr(kind, "on", counted)
    found = model.generate_until([Task.of(place, said) for place, said in enumerate([*words, "film ?"])])
    assert entered == ["pai:alpha=0.3"] * 2
    vlm = model.vlm
    for said, row, text in zip(words, rows, found, strict=False):
        with sl.PAI(alpha=0.3).on(vlm):
            alone = vlm.generate(vlm.encode(Sample(said, (row["image"],))), max_new_tokens=4)
        assert text == alone
    assert found[3] == ""


def test_what_the_model_refuses_is_one_sentence(model_class: Any) -> None:
    for arguments, message in [
        ({"method": "war"}, "war"),
        ({"method": "var"}, "dim"),
        ({"batch_size": "auto"}, "batch_size is 'auto'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"pretrained": "tiny-lava"}, "tiny-llava"),
    ]:
        with pytest.raises(InputError, match=message):
            model_class(**{"pretrained": "tiny-llava", "device": "cpu", **arguments})
    bare = model_class.__new__(model_class)
    with pytest.raises(InputError, match="loglikelihood"):
        bare.loglikelihood([])
    with pytest.raises(InputError, match="several rounds"):
        bare.generate_until_multi_round([])


TASK = """
task: sightline_colours
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{rows}"}}
test_split: test
output_type: generate_until
doc_to_visual: !function helpers.visual
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
process_results: !function helpers.results
generation_kwargs: {{max_new_tokens: 4, temperature: 0, do_sample: false}}
metric_list:
  - {{metric: named, aggregation: mean, higher_is_better: true}}
"""

HELPERS = """
from PIL import Image

def visual(doc):
    return [Image.open(doc["file"]).convert("RGB")]

def results(doc, answers):
    return {"named": float(bool(answers[0]))}
"""


def test_a_local_task_of_lmms_eval(tmp_path: Path) -> None:
    pytest.importorskip("lmms_eval.evaluator", reason="lmms-eval is not installed")
    import json

    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    rows = []
    for place, colour in enumerate(("red", "blue", "green")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{place}.png")
        rows.append({"file": str(tmp_path / f"{place}.png"), "question": "what is here ?", "answer": colour})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "sightline_colours.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"))
    (tmp_path / "task" / "helpers.py").write_text(HELPERS)
    manager = TaskManager("ERROR", include_path=str(tmp_path / "task"), model_name="sightline", include_defaults=False)
    outcome = simple_evaluate(
        model="sightline",
        model_args='pretrained=tiny-llava,method="pai:alpha=0.3,gamma=1.2"',
        tasks=["sightline_colours"],
        batch_size=2,
        device="cpu",
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
    )
    assert outcome["results"]["sightline_colours"]["named,none"] == 1.0
    vlm = sl.load("tiny-llava", device="cpu")
    for row, sample in zip(rows, outcome["samples"]["sightline_colours"], strict=True):
        with sl.PAI(alpha=0.3, gamma=1.2).on(vlm):
            alone = vlm.generate(vlm.encode(Sample(row["question"], (row["file"],))), max_new_tokens=4)
        assert sample["filtered_resps"][0] == alone
