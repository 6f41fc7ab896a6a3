"""The recipes' packed training sees what a user's prompt would: one image's cache serves all conversations about it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sightline.zoo import questions as ask
from sightline.zoo.world import draw_scenes

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def recipe() -> Iterator[Any]:
    if not RECIPES.is_dir():
        pytest.skip("the recipes stand in a clone alone")
    before, paths = set(sys.modules), [str(RECIPES / "tiny_qwen"), str(RECIPES)]
    sys.path[:0] = paths
    names = ("build", "pictures", "quick", "common.data", "common.packed")
    yield SimpleNamespace(**{name.split(".")[-1]: import_module(name) for name in names})
    for path in paths:
        sys.path.remove(path)
    for name in set(sys.modules) - before:
        if str(RECIPES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="module", params=["tiny-qwen2_5-vl", "tiny-qwen3-vl"])
def kind(request: pytest.FixtureRequest, recipe: Any) -> Any:
    return recipe.build.KINDS[request.param]


@pytest.fixture(scope="module")
def model(recipe: Any, kind: Any) -> Any:
    model = recipe.build.build_model(kind, recipe.build.build_tokenizer(), seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)  # else attention hardly differs between positions
    return model


@pytest.mark.parametrize("grid", [(6, 6), (6, 8)])
@torch.no_grad()
def test_packed_conversations_are_said_as_likely_as_alone(
    recipe: Any, kind: Any, model: Any, grid: tuple[int, int]
) -> None:
    tokenizer = recipe.build.build_tokenizer()
    images = recipe.build.build_image_processor(kind)
    packer = recipe.data.Packer(tokenizer, kind.form)
    scenes = list(draw_scenes(2, 5))
    shown = recipe.pictures.pictures(scenes, grid)
    talks = [
        [
            recipe.data.Conversation((ask.existence(scene, scene.kinds[0]),)),
            recipe.data.Conversation((ask.caption(scene), ask.existence(scene, scene.kinds[0]))),
        ]
        for scene in scenes
    ]
    batch = packer.pack(talks)
    said = recipe.packed.answer(model, batch, recipe.pictures.show(model, images, packer.head, shown, grid))
    each = said.logits.log_softmax(-1).gather(1, said.labels[:, None])[:, 0]
    packed = torch.zeros(len(batch.asked)).scatter_add(0, said.owners, each).tolist()
    plain = []
    for picture, about in zip(shown, talks, strict=True):
        inputs = images(images=[picture], return_tensors="pt")
        for talk in about:
            text, spans = kind.form.before + "<|image_pad|>" * (grid[0] * grid[1]), []
            for turn, question in enumerate(talk.turns):
                text += (kind.form.turn if turn else kind.form.after) + question.prompt + kind.form.ask
                start = len(tokenizer.encode(text))
                text += question.answer + "<|im_end|>"
                spans.append(range(start, len(tokenizer.encode(text))))
            ids = torch.tensor([tokenizer.encode(text)])
            types = (ids == model.config.image_token_id).int()
            logits = model(input_ids=ids, mm_token_type_ids=types, **inputs).logits[0].log_softmax(-1)
            plain.extend(sum(float(logits[place - 1, ids[0, place]]) for place in span) for span in spans)
    assert packed == pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize("grid", [(6, 6), (7, 7)])
@torch.no_grad()
def test_windows_taken_at_once_give_the_same_tokens(recipe: Any, kind: Any, grid: tuple[int, int]) -> None:
    model = recipe.build.build_model(kind, recipe.build.build_tokenizer(), seed=1).eval()
    images = recipe.build.build_image_processor(kind)
    shown = recipe.pictures.pictures(list(draw_scenes(3, 6)), grid)
    tokens, added = recipe.pictures.look(model, images, shown)
    recipe.quick.quicken(model.model.visual)
    quick_tokens, quick_added = recipe.pictures.look(model, images, shown)
    for one, other in zip((tokens, *added), (quick_tokens, *quick_added), strict=True):
        torch.testing.assert_close(other, one)
