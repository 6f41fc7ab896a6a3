"""Pruning rules equal their plain formulas, and what they choose is what the model then runs on."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, IMAGE, TEXT, VIDEO, Case
from methods.plain_decoding import GREEDY
from sightline.attention import EditedCall, ForwardPass, attach
from sightline.errors import InputError, ModelError, SightlineWarning
from sightline.methods.base import Method, parse_spec
from sightline.methods.cdpruner import CDPruner, greedy_mode
from sightline.methods.divprune import DivPrune, most_diverse
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.pruning import kept_count
from sightline.methods.pyramiddrop import PyramidDrop
from sightline.methods.random_tokens import RandomPrune
from sightline.methods.sparsevlm import SparseVLM
from sightline.methods.visionzip import VisionZip
from sightline.models.anatomy import find_anatomy
from sightline.models.anatomy.vision_layers import image_tower, tower_layers
from sightline.models.layout import Modality, TokenLayout

FAMILIES = ["llava", "qwen2_5_vl", "qwen3_vl", "llava_next"]


def test_divprune_is_max_min() -> None:
    v = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    d = [[1 - float(torch.cosine_similarity(a, b, dim=0)) for b in v] for a in v]
    chosen = [max(range(12), key=lambda i: min(d[i][j] for j in range(12) if j != i))]
    while len(chosen) < 5:
        rest = [i for i in range(12) if i not in chosen]
        chosen.append(max(rest, key=lambda i: min(d[i][j] for j in chosen)))
    assert most_diverse(v, 5).tolist() == chosen


def test_cdpruner_raises_the_determinant_most_at_every_step() -> None:
    v = torch.nn.functional.normalize(torch.randn(9, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    r = torch.rand(9, generator=torch.Generator().manual_seed(2))
    kernel = (r[:, None] * (v @ v.T) * r).double()
    chosen: list[int] = []
    while len(chosen) < 4:
        rest = [i for i in range(9) if i not in chosen]
        chosen.append(max(rest, key=lambda i: float(torch.linalg.det(kernel[[*chosen, i]][:, [*chosen, i]]))))
    assert greedy_mode(kernel.float(), 4).tolist() == chosen
    best = max(combinations(range(9), 4), key=lambda s: float(torch.linalg.det(kernel[list(s)][:, list(s)])))
    assert len(set(best) & set(chosen)) >= 2


def test_cdpruner_begins_with_the_first_of_equals_whatever_rounding_says() -> None:
    v = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    assert CDPruner().pick(v, v[:0], 5)[0] == 0


def test_counts_are_shares_up_to_one_and_numbers_above() -> None:
    assert [kept_count(576, keep) for keep in (0.098, 1, 64, 1000, 1e-9)] == [56, 576, 64, 576, 1]


def embeddings(model: Any, case: Case, method: Method | None = None) -> Tensor:
    found: list[Tensor] = []
    decoder = find_anatomy(model).decoder

    def note(module: Any, args: Any, kwargs: Any) -> None:
        found.append(kwargs["inputs_embeds"])

    if method is None:
        handle = decoder.register_forward_pre_hook(note, with_kwargs=True)
        with torch.no_grad():
            model(**case.inputs)
        handle.remove()
    else:
        with torch.no_grad(), method.on(model):
            handle = decoder.register_forward_pre_hook(note, with_kwargs=True)
            model(**case.inputs)
            handle.remove()
    return found[0]


RULES: dict[str, tuple[Method, Any]] = {
    "divprune": (DivPrune(keep=0.5), most_diverse),
    "cdpruner": (
        CDPruner(keep=3),
        lambda v, count: greedy_mode(
            (torch.nn.functional.normalize(v, dim=-1) @ torch.nn.functional.normalize(v, dim=-1).T).fill_diagonal_(1),
            count,
        ),
    ),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_runs_on_what_the_rule_chose(family: str, name: str) -> None:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    method, rule = RULES[name]
    whole = embeddings(model, case)[0]
    places = torch.tensor([at for at, kind in enumerate(case.modality[0]) if kind in (IMAGE, VIDEO)])
    chosen = rule(whole[places], kept_count(len(places), method.keep))  # type: ignore[attr-defined]
    keep = torch.ones(len(whole), dtype=torch.bool)
    keep[places] = False
    keep[places[chosen]] = True
    assert torch.equal(embeddings(model, case, method)[0], whole[keep])


class Rows:
    """The weights of the prompt's last row and raters, in positions of the whole prompt, by layer."""

    def __init__(self) -> None:
        self.rows: dict[int, Tensor] = {}

    def begin(self, step: ForwardPass) -> None: ...

    def end(self, step: ForwardPass) -> None: ...

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        if step.is_start:
            self.rows[layer] = attention.row_weights(torch.arange(attention.call.queries)).mean(1)


def weights(method: Method, model: Any, case: Case) -> dict[int, Tensor]:
    reader = Rows()
    with torch.no_grad(), method.on(model), attach(find_anatomy(model), reader=reader):
        model.generate(**case.inputs, **GREEDY)
    return reader.rows


def left(rows: Tensor, image: list[int]) -> list[int]:
    return [at for at in image if float(rows[0, :, at].sum()) > 0]


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("name", ["pyramiddrop", "sparsevlm"])
def test_stages_keep_what_the_layer_before_ranks_highest(family: str, name: str) -> None:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    depth = len(find_anatomy(model).layers)
    layers, keep = (1, depth - 1), (0.6, 0.3)
    method = PyramidDrop(layers, keep, ahead=False) if name == "pyramiddrop" else SparseVLM(layers, keep, recycle=False)
    rows = weights(method, model, case)
    kinds = case.modality[0]
    image = [at for at, kind in enumerate(kinds) if kind in (IMAGE, VIDEO)]
    raters = [len(kinds) - 1]
    if name == "sparsevlm":
        state = embeddings(model, case)[0]
        words = [at for at, kind in enumerate(kinds) if kind == TEXT and at > max(image)]
        liking = torch.stack([(state[words] @ state[j]).softmax(0) for j in image]).mean(0)
        raters = [at for at, value in zip(words, liking, strict=True) if value > liking.mean()]
    stays = image
    for layer, share in zip(layers, keep, strict=True):
        score = rows[layer - 1][0, raters].mean(0)
        count = int(share * len(image)) if name == "pyramiddrop" else round(share * len(image))
        best = sorted(stays, key=lambda at: -float(score[at]))[:count]
        stays = sorted(best)
        assert left(rows[layer], image) == stays
    assert left(rows[0], image) == image


@pytest.mark.parametrize("class_token", [True, False])
def test_visionzip_merges_before_the_projector(class_token: bool) -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    anatomy = find_anatomy(model)
    kept: dict[str, Any] = {}
    block, attention = tower_layers(image_tower(anatomy))[-2]  # type: ignore[arg-type]

    def note(name: str) -> Any:
        return lambda module, args, output: kept.update({name: output[0]})

    # The state after layer -2 is what hidden_states[-2] counts, the class token first.
    named = (("state", block), ("keys", attention.k_proj), ("queries", attention.q_proj))
    handles = [part.register_forward_hook(note(name)) for name, part in named]
    with torch.no_grad():
        model(**case.inputs)
        for handle in handles:
            handle.remove()
        state = kept["state"] if kept["state"].dim() == 2 else kept["state"][0]
        heads = attention.num_heads
        query, key = (kept[name].unflatten(-1, (heads, -1)) for name in ("queries", "keys"))
        scores = torch.einsum("hd,jhd->hj", query[0], key) * query.shape[-1] ** -0.5
        received = scores.softmax(-1).mean(0)[1:]
        order = received.argsort(descending=True).tolist()
        dominant = sorted(order[: 3 - class_token])
        rest = [patch for patch in range(len(order)) if patch not in dominant]
        targets = [rest[number * (len(rest) // 2)] for number in range(2)]
        merged, metric = state[1:].clone(), key.mean(1)[1:]
        likeness = torch.nn.functional.cosine_similarity(metric[:, None], metric[None], dim=-1)
        for number, target in enumerate(targets):
            mine = [
                other for other in rest if other not in targets and int(likeness[other, targets].argmax()) == number
            ]
            if mine:
                merged[target] += state[1:][mine].mean(0)
        tokens = torch.cat([state[:class_token], merged[dominant], merged[targets]])
        features = anatomy.projector(tokens[None])[0]  # type: ignore[misc]
    method = VisionZip(keep=5, merged=2, class_token=class_token)
    found = embeddings(model, case, method)[0]
    first = case.modality[0].index(IMAGE)
    assert torch.allclose(found[first : first + 5], features, atol=1e-5)
    assert len(found) == len(case.modality[0]) - sum(kind == IMAGE for kind in case.modality[0]) + 5


def test_visionzip_shows_targets_in_their_places_and_nothing_where_the_class_token_stands() -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    layouts: list[TokenLayout] = []

    class Note(Rows):
        def begin(self, step: ForwardPass) -> None:
            layouts.append(step.layout)

    with torch.no_grad(), VisionZip(keep=5, merged=2).on(model), attach(find_anatomy(model), reader=Note()):
        model(**case.inputs)
    for grids, modality in zip(layouts[0].grids, layouts[0].modality, strict=True):
        (grid,) = grids
        image = (modality == int(Modality.IMAGE)).nonzero()[:, 0]
        shown = grid.positions[grid.positions >= 0].sort().values
        assert len(image) == 5
        assert shown.tolist() == image[1:].tolist()  # the first is the class token


@pytest.mark.parametrize("method", [FasterVLM(r=0.5), VisionZip(keep=5, merged=2)])
def test_a_tower_without_a_class_token_is_said_to_be_scored_otherwise(method: Method) -> None:
    model = BY_NAME["paligemma"].model()
    with pytest.warns(SightlineWarning, match=f"{method.name}: this vision tower has no class token"), method.on(model):
        pass


@pytest.mark.filterwarnings("ignore:visionzip.*this vision tower")
def test_visionzip_refuses_merged_patches() -> None:
    case, model = BY_NAME["qwen2_vl"].make_inputs(1, None), BY_NAME["qwen2_vl"].model()
    with torch.no_grad(), VisionZip().on(model), pytest.raises(ModelError, match=r"that of Qwen2VL.* is not"):
        model(**case.inputs)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: DivPrune(keep=0), "keep is 0 in divprune: give a share up to 1, or a whole number of tokens"),
        (lambda: DivPrune(keep=1.5), "keep is 1.5 in divprune: give a share up to 1, or a whole number of tokens"),
        (lambda: PyramidDrop(layers=(1, 2), keep=(0.5,)), "pyramiddrop has 2 layers and 1 shares to keep"),
        (lambda: VisionZip(keep=8, merged=8), "merged is 8 in visionzip: give fewer than the 8 patches kept"),
    ],
)
def test_wrong_settings_are_refused(build: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build()


def test_random_tokens_are_as_many_and_others() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    found = [
        embeddings(model, case, method)
        for method in (DivPrune(keep=0.5), RandomPrune(keep=0.5), RandomPrune(keep=0.5, seed=4))
    ]
    assert found[0].shape == found[1].shape == found[2].shape
    assert not torch.equal(found[1], found[2])


@pytest.mark.parametrize("spec", ["divprune:keep=0.25", "repeat:n=2"])
@pytest.mark.parametrize("method", [FasterVLM(r=0.5), VisionZip(keep=5, merged=2)])
def test_patches_are_not_taken_for_others_where_a_method_changed_their_number(method: Method, spec: str) -> None:
    """A quarter of the tokens, or twice as many, could be taken for merged patches, or for copies of a sample."""
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    other = parse_spec(spec)
    assert other is not None
    sentence = f"{method.name} chooses among all patches .* enter {method.name} before it"
    with torch.no_grad(), other.on(model), method.on(model), pytest.raises(InputError, match=sentence):
        model(**case.inputs)
    with torch.no_grad(), method.on(model), other.on(model):
        model(**case.inputs)
