"""OPERA: over-trust penalty and retrospection (arXiv 2311.17911, CVPR 2024), handed to `generate` as its own loop."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention import row_weights
from sightline.attention.call import AttentionCall, by_call
from sightline.attention.hooks import Hooks
from sightline.attention.inner import find_inner
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, ModelError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.generating import check_least
from sightline.methods.scoring import VISUAL, prompt_layout
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.cache import cache_from, cache_of, is_static, with_cache
from sightline.models.transformers_api.generation import given_to


@register
@dataclass(frozen=True)
class OPERA(Method):
    """Searches with beams, and marks a candidate down when the last words all lean on one word before them.

        phi = scale max over generated words j of  prod over rows i from j to the candidate of  sigma a_ij
        phi of the first `early` words = - attention to the image
        score of a candidate = log p(candidate) - alpha phi
        where the word that phi leans on is the same for more than `patience` of the last steps: go back to it, and take
        another word behind it, at most `rollbacks` times

    a: attention weights of the last layer, the largest of its heads, divided by the row's sum; among the last `window`
    generated words. `scale` and `early` stand in the public code alone; no answer goes back to an early word. Each step
    is one pass over `candidates` likeliest words of every beam, so that their own rows count. Beams that end are set
    aside; of all, the one of the highest score a word is the answer. `beams` = 1 is a greedy search with candidates.

    It takes the place of the decoding loop (`custom_generate`), so that `num_beams` is its own `beams`, sampling is
    refused, and scores are not returned. Samples of a batch are searched one after the other from one pass over their
    prompts. alpha = 0 with patience 0 (never going back) is plain beam search, its control.
    """

    name: ClassVar[str] = "opera"
    beams: int = setting(5, "beams, 1 or more")
    candidates: int = setting(5, "words tried for each beam, 1 or more")
    alpha: float = setting(1.0, "weight of the penalty, 0 (none) or more")
    sigma: float = setting(50.0, "factor on attention weights within the product, above 0")
    scale: float = setting(1e-7, "factor on the product, above 0")
    early: int = setting(10, "first words, which are judged by their attention to the image instead; 0: none")
    window: int = setting(512, "generated words that the product reaches back over, 1 or more")
    patience: int = setting(15, "steps that may lean on one word before it is gone back to; 0: never go back")
    rollbacks: int = setting(10, "times that an answer may be gone back in, 0 or more")

    def __post_init__(self) -> None:
        check_least(self.name, 1, beams=self.beams, candidates=self.candidates, window=self.window)
        check_least(self.name, 0, alpha=self.alpha, early=self.early, patience=self.patience)
        check_least(self.name, 0, rollbacks=self.rollbacks)
        for name, value in (("sigma", self.sigma), ("scale", self.scale)):
            if not value > 0:
                raise InputError(f"{name} is {value} in opera: give a factor above 0.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every `generate` inside.

        Raises:
            InputError: for sampling, several sequences, and other decoding loops.
            ModelError: for a model that lets an inner language model generate, or whose cache can't be copied.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        if find_inner(anatomy) is not None:
            kind = type(anatomy.model).__name__
            raise ModelError(f"opera can't follow {kind}, which lets an inner language model generate.")
        last = anatomy.attentions[anatomy.attention_layers[-1]]
        with Hooks(anatomy) as hooks:
            search = _Search(self, anatomy, source)
            hooks.intercept([last], by_call(search.attend))  # type: ignore[list-item]
            hooks.shadow(anatomy.model, "generate", search.generating)
            yield

    def penalty(self, rows: Float[Tensor, "row words"], image: float = 0.0) -> tuple[float, int]:
        """phi of one candidate, and the word that it leans on.

        rows: of each generated word, on each generated word. image: the candidate's attention to the image.
        """
        size = min(self.window, len(rows))
        scaled = self.sigma * rows[-size:, -size:]
        products = torch.stack([scaled[word:, word].prod() for word in range(size)])
        place = int(products.argmax()) + len(rows) - size
        return (-image if len(rows) <= self.early else self.scale * float(products.max())), place


@dataclass
class _Beams:
    """The beams of one sample. rows: of each, [words, words]; places: what each step of the best beam leaned on."""

    words: Int[Tensor, "beams words"]
    scores: Float[Tensor, " beams"]
    logits: Float[Tensor, "beams vocabulary"]
    cache: Any
    rows: list[Tensor] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


class _Search:
    """The decoding loop of one `with`."""

    def __init__(self, method: OPERA, anatomy: Anatomy, source: LayoutSource | None) -> None:
        self._method, self._anatomy, self._source = method, anatomy, source
        self._row, self._image = torch.zeros(0), torch.zeros(0, dtype=torch.bool)

    def attend(self, call: AttentionCall) -> None:
        """The last layer's attention: its last row is noted, the largest of its heads by its sum, [rows, keys]."""
        placed = replace(call, offset=int(call.key.shape[2]) - int(call.query.shape[2]))
        with torch.no_grad():
            last = torch.tensor([call.queries - 1], device=call.query.device)
            largest = row_weights(placed, last).amax(1)[:, 0].cpu()
            self._row = largest / largest.sum(-1, keepdim=True)

    def generating(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`generate` with this loop in the place of its own."""

        @wraps(original)
        def generate(*args: Any, **kwargs: Any) -> Any:
            options = given_to(original, args, kwargs)
            if options.get("do_sample") or (options.get("num_return_sequences") or 1) > 1:
                raise InputError("opera searches for one answer: leave do_sample and num_return_sequences out.")
            if options.get("custom_generate") is not None or options.get("use_cache") is False:
                raise InputError("opera is a decoding loop on a cache: leave custom_generate and use_cache=False out.")
            images = prompt_layout(self._anatomy, self._source, options).mask(*VISUAL)
            decode = partial(self.decode, images)
            return original(**{**options, "num_beams": 1, "do_sample": False, "custom_generate": decode})

        return generate

    def decode(
        self, images: Bool[Tensor, "batch positions"], model: Any, input_ids: Tensor, logits_processor: Any,
        stopping_criteria: Any, generation_config: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """The loop, as `generate` calls it with all inputs prepared. images: which positions are an image's."""
        kwargs = {name: value for name, value in kwargs.items() if name not in ("synced_gpus", "streamer")}
        if is_static(cache_of(kwargs)):
            raise InputError("opera copies its cache: call generate without a static cache_implementation.")
        inputs = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **kwargs)
        output = model(**inputs, return_dict=True)
        cache, logits = cache_from(output), output.logits[:, -1].float()
        answers = []
        for sample, ids in enumerate(input_ids):
            self._image = images[sample]
            own = copy.deepcopy(cache)
            own.batch_select_indices(torch.tensor([sample], device=input_ids.device))
            mine = {name: _row_of(value, sample, len(input_ids)) for name, value in kwargs.items()}
            beams = _Beams(ids.new_zeros((1, 0)), torch.zeros(1), logits[sample : sample + 1], own, [torch.zeros(0, 0)])
            answers.append(self._answer(model, ids, beams, mine, logits_processor, stopping_criteria))
        pad = generation_config.pad_token_id
        pad = generation_config.eos_token_id if pad is None else pad
        pad = pad[0] if isinstance(pad, list) else pad or 0
        longest = max(map(len, answers))
        padded = [torch.nn.functional.pad(answer, (0, longest - len(answer)), value=pad) for answer in answers]
        sequences = torch.cat([input_ids, torch.stack(padded)], 1)
        if not generation_config.return_dict_in_generate:
            return sequences
        from transformers.generation import GenerateDecoderOnlyOutput

        return GenerateDecoderOnlyOutput(sequences=sequences)

    def _answer(
        self, model: Any, prompt: Tensor, beams: _Beams, kwargs: Mapping[str, Any], processors: Any, criteria: Any
    ) -> Int[Tensor, " words"]:
        """The words of one sample's answer."""
        method = self._method
        done: list[tuple[float, Tensor]] = []
        banned: dict[int, set[int]] = {}
        left = method.rollbacks
        while True:
            beams = self._step(model, prompt, beams, kwargs, processors, banned)
            whole = torch.cat([prompt.expand(len(beams.words), -1), beams.words], 1)
            is_over = criteria(whole, None)
            for words, score, over in zip(beams.words, beams.scores, is_over, strict=True):
                if over:
                    done.append((float(score) / len(words), words))
            # A beam that leads to nothing better is not gone on with.
            going = (~is_over).nonzero()[:, 0]
            if not len(going) or len(done) >= method.beams:
                return max(done, key=lambda pair: pair[0])[1]
            if len(going) < len(beams.words):
                beams = _chosen(beams, going)
            place = self._leans(beams.places)
            if place is not None and left:
                left -= 1
                banned.setdefault(place + 1, set()).update(beams.words[:, place + 1].tolist())
                beams = self._back(model, prompt, beams, kwargs, place + 1)

    def _step(
        self, model: Any, prompt: Tensor, beams: _Beams, kwargs: Mapping[str, Any], processors: Any,
        banned: Mapping[int, set[int]],
    ) -> _Beams:  # fmt: skip
        """Every beam's candidates are run, and the best of all go on."""
        method, length = self._method, beams.words.shape[1]
        whole = torch.cat([prompt.expand(len(beams.words), -1), beams.words], 1)
        scores = processors(whole, beams.logits.log_softmax(-1))
        if banned.get(length):
            scores[:, sorted(banned[length])] = float("-inf")
        # At the start one beam stands for all.
        count = min(method.candidates if length else max(method.beams, method.candidates), scores.shape[-1])
        found = scores.topk(count, -1)
        beams.cache.batch_repeat_interleave(count)
        words = torch.cat([beams.words.repeat_interleave(count, 0), found.indices.reshape(-1, 1)], 1)
        logits, row = self._run(model, prompt, words, beams.cache, kwargs)
        rows, penalties, places = [], [], []
        seen = row[:, : len(prompt)][:, self._image].sum(-1).tolist()
        for number, mine in enumerate(row[:, len(prompt) :]):
            table = torch.nn.functional.pad(beams.rows[number // count], (0, 1, 0, 1))
            table[-1] = mine
            penalty, place = method.penalty(table, seen[number])
            rows.append(table)
            penalties.append(penalty)
            places.append(place)
        total = beams.scores.repeat_interleave(count) + found.values.reshape(-1).cpu()
        total = total - method.alpha * torch.tensor(penalties)
        best = total.topk(min(method.beams, len(total))).indices
        grown = _Beams(words, total, logits, beams.cache, rows, beams.places)
        chosen = _chosen(grown, best.to(words.device))
        chosen.places = [*beams.places, places[int(best[0])]]
        return chosen

    def _leans(self, places: list[int]) -> int | None:
        """The word that too many of the last steps lean on."""
        patience = self._method.patience
        if not patience or len(places) <= patience:
            return None
        place, count = Counter(places[-2 * patience :]).most_common(1)[0]
        return place if count > patience and self._method.early <= place < len(places) - 1 else None

    def _back(self, model: Any, prompt: Tensor, beams: _Beams, kwargs: Mapping[str, Any], length: int) -> _Beams:
        """The beams as they were with so many words: the best one's, as those behind are another's."""
        beams = _chosen(beams, torch.zeros(1, dtype=torch.long, device=beams.words.device))
        words = beams.words[:, :length]
        beams.cache.crop(length - 1 - beams.words.shape[1])
        logits, _ = self._run(model, prompt, words, beams.cache, kwargs)
        rows = [mine[:length, :length] for mine in beams.rows]
        return _Beams(words, beams.scores, logits, beams.cache, rows, beams.places[:length])

    def _run(
        self, model: Any, prompt: Tensor, words: Tensor, cache: Any, kwargs: Mapping[str, Any]
    ) -> tuple[Float[Tensor, "rows vocabulary"], Float[Tensor, "rows keys"]]:
        """The logits behind each row's last word, and that word's attention."""
        count, length = words.shape
        grown = {name: _grown(name, value, count, length) for name, value in kwargs.items()}
        whole = torch.cat([prompt.expand(count, -1), words], 1)
        inputs = model.prepare_inputs_for_generation(
            whole, next_sequence_length=1, is_first_iteration=False, **with_cache(grown, cache, model)
        )
        output = model(**inputs, return_dict=True)
        return output.logits[:, -1].float(), self._row


def _chosen(beams: _Beams, index: Int[Tensor, " chosen"]) -> _Beams:
    """Some of the beams, in this order."""
    beams.cache.batch_select_indices(index)
    order = index.tolist()
    rows = [beams.rows[number] for number in order]
    return _Beams(beams.words[index], beams.scores[index.cpu()], beams.logits[index], beams.cache, rows, beams.places)


def _row_of(value: Any, sample: int, batch: int) -> Any:
    """One sample's part of what has a row for each, before or behind an axis of dimensions."""
    if not isinstance(value, Tensor) or not value.dim():
        return value
    axis = 1 if value.dim() == 3 and value.shape[1] == batch and value.shape[0] in (3, 4) else 0
    return value.narrow(axis, sample, 1) if value.shape[axis] == batch else value


def _grown(name: str, value: Any, rows: int, words: int) -> Any:
    """What stands beside the prompt's ids, for so many rows with so many words behind it."""
    if not isinstance(value, Tensor) or value.dim() < 2:
        return value
    if name == "attention_mask":
        return torch.nn.functional.pad(value, (0, words), value=1).expand(rows, -1)
    if name.endswith("token_type_ids"):
        return torch.nn.functional.pad(value, (0, words)).expand(rows, -1)
    if name == "position_ids":
        more = value[..., -1:] + torch.arange(1, words + 1, device=value.device)
        return torch.cat([value, more], -1).expand(*value.shape[:-2], rows, -1)
    return value
