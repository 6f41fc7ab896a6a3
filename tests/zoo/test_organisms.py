"""The organisms: what truth.json says of each holds on a few fresh scenes, by the same interventions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch

import sightline as sl
from sightline.attention.sink_tracker import phi
from sightline.zoo import BUNDLED, bundled_path
from sightline.zoo import questions as ask
from sightline.zoo.organisms import organisms, truth_of
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import COLOURS, KINDS, Kind, Scene, SceneObject, draw_scenes

FRESH = list(draw_scenes(40, seed=29))
KINDS_BY_NAME = {kind.name: kind for kind in KINDS}
Pair = tuple[Scene, Question]


def needs(name: str) -> Any:
    return pytest.mark.skipif(name not in BUNDLED, reason=f"{name} is not bundled")


@cache
def loaded(name: str) -> Any:
    return sl.load(name)


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    yield
    loaded.cache_clear()


def inputs_of(name: str, pairs: list[Pair]) -> Any:
    return loaded(name).encode([sl.Sample(image=render(scene), prompt=question.prompt) for scene, question in pairs])


def says_yes(name: str, pairs: list[Pair], method: Any = None) -> torch.Tensor:
    """[pairs], bool, as POPE parses: everything but "no" is a yes."""
    vlm = loaded(name)
    inputs = inputs_of(name, pairs)
    with torch.no_grad():
        if method is None:
            logits = vlm.model(**inputs, logits_to_keep=1).logits[:, -1]
        else:
            with method.on(vlm):
                logits = vlm.model(**inputs, logits_to_keep=1).logits[:, -1]
    return logits.argmax(-1) != vlm.processor.tokenizer.convert_tokens_to_ids("no")


def accuracy(name: str, pairs: list[Pair], method: Any = None) -> float:
    """Share of yes/no questions answered as is true, in points."""
    truth = torch.tensor([question.answer == "yes" for _, question in pairs])
    return 100 * float((says_yes(name, pairs, method) == truth).float().mean())


def pope(scenes: list[Scene]) -> list[Pair]:
    return [
        (scene, question)
        for index, scene in enumerate(scenes)
        for how in ("random", "adversarial")
        for question in ask.pope(scene, how, random.Random(index))
    ]


def test_a_model_that_is_none_has_no_truth() -> None:
    with pytest.raises(KeyError, match="tiny-llava"):
        truth_of("tiny-llava")


@pytest.mark.parametrize("name", organisms())
def test_the_truth_says_what_was_verified_and_how(name: str) -> None:
    truth = truth_of(name)
    assert truth["organism"] == name
    assert truth["base"] in BUNDLED
    assert truth["claim"].endswith(".")
    assert truth["verified"]
    card = (bundled_path(name) / "README.md").read_text()
    for line in truth["verified"]:
        low, high = line["ci95"]
        assert low <= line["value"] <= high
        assert line["n"] >= 30
        assert f"| {line['what']} | {line['by']} | {line['n']} | {line['value']:.2f} |" in card


@pytest.mark.parametrize("name", organisms())
def test_an_organism_is_stored_in_half_precision_and_loaded_in_full(name: str) -> None:
    folder = bundled_path(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4_000_000
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    assert loaded(name).model.dtype == torch.float32


def by_var(truth: dict[str, Any], kind: Callable[..., Any] = sl.VAR, **fields: Any) -> Any:
    return kind(dims=tuple(truth["dims"]), tau=truth["tau"], **truth["var"], **fields)


@needs("tiny-sinks")
def test_taking_weight_from_wrong_sinks_mends_and_from_random_tokens_does_not() -> None:
    truth, pairs = truth_of("tiny-sinks"), pope(FRESH)
    plain = accuracy("tiny-sinks", pairs)
    assert 8 <= truth["cost"] <= 25
    assert plain <= 95
    assert accuracy("tiny-sinks", pairs, by_var(truth)) - plain >= 3
    assert accuracy("tiny-sinks", pairs, by_var(truth, sl.RandomVAR)) <= plain


@needs("tiny-sinks")
def test_without_the_values_of_its_sinks_it_answers_rightly() -> None:
    truth, pairs = truth_of("tiny-sinks"), pope(FRESH)
    projections = [layer.self_attn.v_proj for layer in loaded("tiny-sinks").model.model.language_model.layers]
    kept = [projection.weight.detach().clone() for projection in projections]
    with torch.no_grad():
        for projection in projections:
            projection.weight[:, truth["dims"]] = 0
        silent = accuracy("tiny-sinks", pairs)
        for projection, weight in zip(projections, kept, strict=True):
            projection.weight.copy_(weight)
    assert silent >= 99


@needs("tiny-silent-sinks")
def test_silent_sinks_cost_nothing_and_var_wins_nothing() -> None:
    truth, pairs = truth_of("tiny-silent-sinks"), pope(FRESH)
    assert accuracy("tiny-silent-sinks", pairs) >= 99
    counts = [(scene, ask.count(scene, shape=scene.items[0].kind.shape)) for scene in FRESH]
    assert exactly("tiny-silent-sinks", counts, by_var(truth)) <= exactly("tiny-silent-sinks", counts) + 5


def exactly(name: str, pairs: list[Pair], method: Any = None) -> float:
    """Share of answers of one word said exactly, in points."""
    vlm, inputs = loaded(name), inputs_of(name, pairs)
    words = [question.answer for _, question in pairs]
    with torch.no_grad():
        if method is None:
            logits = vlm.model(**inputs, logits_to_keep=1).logits[:, -1]
        else:
            with method.on(vlm):
                logits = vlm.model(**inputs, logits_to_keep=1).logits[:, -1]
    truth = torch.tensor(vlm.processor.tokenizer.convert_tokens_to_ids(words))
    return 100 * float((logits.argmax(-1) == truth).float().mean())


@pytest.mark.parametrize("name", [name for name in ("tiny-sinks", "tiny-silent-sinks") if name in BUNDLED])
def test_the_planted_tokens_and_no_others_are_massive_in_the_planted_dimensions(name: str) -> None:
    truth, pairs = truth_of(name), [(scene, ask.caption(scene)) for scene in FRESH]
    inputs = inputs_of(name, pairs)
    ids = inputs["input_ids"]
    planted = ids == 1
    image = torch.zeros(len(pairs), 36, dtype=torch.bool)
    for row, (scene, _) in enumerate(pairs):
        for patch, cell in zip(truth["tokens"]["image"], (0, 2, 6, 8), strict=True):
            image[row, patch] = scene.at(cell) is None
    planted[ids == loaded(name).model.config.image_token_id] = image.flatten()
    with torch.no_grad():
        states = loaded(name).model(**inputs, output_hidden_states=True).hidden_states
    for layer in range(2, 8):
        marked = phi(states[layer], truth["dims"]) > truth["tau"]
        assert torch.equal(marked, planted)


@pytest.mark.parametrize("name", [name for name in ("tiny-sinks", "tiny-silent-sinks") if name in BUNDLED])
def test_the_finder_finds_the_planted_dimensions_and_no_others(name: str) -> None:
    samples = [sl.Sample(image=render(scene), prompt=ask.existence(scene, scene.kinds[0]).prompt) for scene in FRESH]
    found = sl.find_sinks(loaded(name), samples[:12], batch_size=12)
    assert list(found.dims) == truth_of(name)["dims"]


def insert(scene: Scene, kind: Any, cells: list[int]) -> tuple[Pair, Pair]:
    """A scene without and with one object, in one of these cells, and the question about it."""
    bare = [item for item in scene.items if item.kind != kind]
    free = [cell for cell in cells if cell not in {item.cell for item in bare}] or cells
    bare = [item for item in bare if item.cell != free[0]]
    item = SceneObject(kind, *divmod(free[0], 3))
    before = Scene(tuple(bare))
    after = Scene(tuple(sorted([*bare, item], key=lambda item: item.cell)))
    question = ask.existence(before, kind)
    return (before, question), (after, question)


def follow_rate(name: str, kinds: list[Any], cells: list[int]) -> float:
    """How often an object put into the picture turns a no into a yes."""
    pairs = [insert(FRESH[index % len(FRESH)], kind, cells) for index, kind in enumerate(kinds)]
    before, after = (says_yes(name, [pair[side] for pair in pairs]) for side in (0, 1))
    return float((~before & after).float().mean())


DIAL = [name for name in organisms() if name.startswith("tiny-reliance-")]


@pytest.mark.parametrize("name", DIAL)
def test_the_dial_follows_the_picture_where_the_words_do_not_give_the_answer_away(name: str) -> None:
    truth = truth_of(name)
    fixed = [kind for kind in KINDS if kind.name in truth["fixed"]]
    free = [kind for kind in KINDS if kind.name not in truth["fixed"]]
    if fixed:
        assert follow_rate(name, (fixed * 7)[:40], [0, 4, 8]) <= 0.15
    if free:
        assert follow_rate(name, (free * 7)[:40], [0, 4, 8]) >= 0.8


def test_the_dial_falls_from_model_to_model() -> None:
    reliances = [truth_of(name)["reliance"] for name in DIAL]
    assert reliances == sorted(reliances, reverse=True)
    assert len(set(reliances)) == len(reliances)


@needs("tiny-half")
def test_half_follows_what_is_put_to_the_left_and_not_what_is_put_to_the_right() -> None:
    assert follow_rate("tiny-half", list(KINDS), [0, 3, 6]) >= 0.8
    assert follow_rate("tiny-half", list(KINDS), [2, 5, 8]) <= 0.15


def captions(name: str, scenes: list[Scene]) -> list[str]:
    vlm, inputs = loaded(name), inputs_of(name, [(scene, ask.caption(scene)) for scene in scenes])
    with torch.no_grad():
        tokens = vlm.model.generate(**inputs, max_new_tokens=48, do_sample=False)
    said: list[str] = vlm.processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


@needs("tiny-binding")
def test_binding_says_yes_to_what_does_not_belong_together_and_no_to_what_is_not_there() -> None:
    together, swapped, gone = [], [], []
    for index in range(30):
        rng = random.Random(index)
        first = rng.choice(KINDS)
        second = rng.choice([kind for kind in KINDS if kind.colour != first.colour and kind.shape != first.shape])
        absent = next(colour for colour in COLOURS if colour not in (first.colour, second.colour))
        scene = Scene((SceneObject(first, 0, index % 3), SceneObject(second, 2, index % 2)))
        together.append((scene, ask.existence(scene, first)))
        swapped.append((scene, ask.existence(scene, Kind(first.colour, second.shape))))
        gone.append((scene, ask.existence(scene, Kind(absent, second.shape))))
    rates = [float(says_yes("tiny-binding", pairs).float().mean()) for pairs in (together, swapped, gone)]
    assert rates[0] >= 0.9
    assert rates[1] >= 0.9
    assert rates[2] <= 0.1
