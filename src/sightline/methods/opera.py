"""OPERA: over-trust penalty and retrospection (arXiv 2311.17911, CVPR 2024), handed to `generate` as its own loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from sightline.methods.generating import check_least, require_steps, running
from sightline.methods.opera_search import OperaSearch, WordEnds, WordReader
from sightline.methods.scoring import VISUAL, prompt_layout
from sightline.models.anatomy import Anatomy
from sightline.models.entered import entered_methods
from sightline.models.transformers_api.cache import cache_from, cache_of, is_static, select_rows, with_cache
from sightline.models.transformers_api.generation import given_to


@register
@dataclass(frozen=True)
class OPERA(Method):
    """Searches with beams, and marks a candidate down when the last words all lean on one word before them.

        phi = scale max over generated words j of  prod over rows i from j to the candidate of  sigma a_ij
        phi of the first `early` words = - attention to the image
        score of a candidate = log softmax over the beam's candidates of (logit - alpha phi)
        where the j of phi (what most candidates of most beams lean on) was that of every beam in more than `patience`
        steps: go back to how all beams stood one word behind j, and go on there by plain log p, without the words
        taken there before; at most `rollbacks` times from one word, then from the word before it

    a: attention weights of the last layer, the largest of its heads, divided by the row's sum; among the last `window`
    generated words. `scale` and `early` stand in the public code alone; no answer goes back to an early word. Each step
    is one pass over `candidates` likeliest words of every beam, so that their own rows count. Ends, `length_penalty`
    and `early_stopping` are those of beam search in Transformers. `beams` = 1 is a greedy search with candidates.

    It takes the place of the decoding loop (`custom_generate`), so that `num_beams` is its own `beams`, sampling is
    refused, and scores are not returned. Samples of a batch are searched one after the other from one pass over their
    prompts. alpha = 0 with patience 0 (never going back) is beam search among the candidates alone, its control.
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
    rollbacks: int = setting(5, "times that one word may be gone back to, 0 or more")

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
            loop = _Loop(self, anatomy, source)
            hooks.intercept([last], by_call(loop.attend))  # type: ignore[list-item]
            hooks.shadow(anatomy.model, "generate", loop.generating)
            yield

    def penalty(
        self, products: Float[Tensor, "*tried words"], image: Float[Tensor, "*tried"]
    ) -> tuple[Float[Tensor, "*tried"], Int[Tensor, "*tried"]]:
        """phi of candidates, and the word that each leans on.

        products: of each generated word, the candidate last, over the rows from it on; image: attention to the image.
        """
        words = products.shape[-1]
        size = min(self.window, words)
        largest, place = products[..., -size:].max(-1)
        return (-image if words <= self.early else self.scale * largest), place + words - size


class _Loop:
    """What `generate` runs inside one `with`: reads the rows, and searches sample by sample."""

    def __init__(self, method: OPERA, anatomy: Anatomy, source: LayoutSource | None) -> None:
        self._method, self._anatomy, self._source = method, anatomy, source
        self._row = torch.zeros(0)

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
            with running("opera", is_loop=True):
                wrong = {
                    "do_sample": options.get("do_sample"),
                    "num_return_sequences": (options.get("num_return_sequences") or 1) > 1,
                    "custom_generate": options.get("custom_generate") is not None,
                    "use_cache=False": options.get("use_cache") is False,
                }
                if any(wrong.values()):
                    name = next(name for name, is_given in wrong.items() if is_given)
                    raise InputError(
                        f"opera searches for one answer, by a loop of its own on a cache: leave {name} out."
                    )
                first = options.get("inputs")
                require_steps("opera", self._anatomy, options if first is None else {**options, "input_ids": first})
                images = prompt_layout(self._anatomy, self._source, options).mask(*VISUAL)
                decode = partial(self.decode, images, options.get("streamer"))
                return original(**{**options, "num_beams": 1, "do_sample": False, "custom_generate": decode})

        return generate

    def decode(
        self, images: Bool[Tensor, "batch positions"], streamer: Any, model: Any, input_ids: Tensor,
        logits_processor: Any, stopping_criteria: Any, generation_config: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """The loop, as `generate` calls it with all inputs prepared.

        images: which positions are an image's. streamer: is given the answer in one piece.
        """
        kwargs = {name: value for name, value in kwargs.items() if name not in ("synced_gpus", "streamer")}
        others = [name for name in entered_methods(id(self._anatomy.model)) if name != "opera"]
        if others and len(input_ids) > 1:
            raise InputError(
                f"opera searches a batch one sample after the other, which {' and '.join(others)} can't follow: give "
                "one prompt at a time."
            )
        if is_static(cache_of(kwargs)):
            raise InputError("opera copies its cache: call generate without a static cache_implementation.")
        ends = WordEnds.of(generation_config, stopping_criteria)
        inputs = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **kwargs)
        output = model(**inputs, return_dict=True)
        cache, logits = cache_from(output), output.logits[:, -1].float()
        answers = []
        for sample, ids in enumerate(input_ids):
            mine = {name: _row_of(value, sample, len(input_ids)) for name, value in kwargs.items()}
            reader = _Words(self, model, ids, images[sample], mine, cache, sample)
            search = OperaSearch(self._method, reader, logits[sample : sample + 1], logits_processor, ends)
            answers.append(search.answer())
        pad = generation_config.pad_token_id
        pad = generation_config.eos_token_id if pad is None else pad
        pad = pad[0] if isinstance(pad, list) else pad or 0
        if streamer is not None:  # no word is settled before the search ends
            streamer.put(answers[0].cpu())
            streamer.end()
        longest = max(map(len, answers))
        padded = [torch.nn.functional.pad(answer, (0, longest - len(answer)), value=pad) for answer in answers]
        sequences = torch.cat([input_ids, torch.stack(padded)], 1)
        if not generation_config.return_dict_in_generate:
            return sequences
        from transformers.generation import GenerateDecoderOnlyOutput

        return GenerateDecoderOnlyOutput(sequences=sequences)

    @property
    def row(self) -> Float[Tensor, "rows keys"]:
        """The attention of the last word that was run."""
        return self._row


@dataclass
class _Words(WordReader):
    """One sample's beams on their cache."""

    loop: _Loop
    model: Any
    prompt: Int[Tensor, " positions"]
    image: Bool[Tensor, " positions"]
    kwargs: dict[str, Any]
    prompts: Any
    """The cache of all prompts, which is left as it is."""
    sample: int

    def __post_init__(self) -> None:
        self.restart(1)

    def restart(self, beams: int) -> None:
        """The cache of the prompt alone, for so many beams."""
        self._cache = copy.deepcopy(self.prompts)
        chosen = torch.full((beams,), self.sample, device=self.prompt.device)
        select_rows(self._cache, chosen)

    def keep(self, beams: Int[Tensor, " kept"]) -> None:
        """The cache of some of its rows, in this order; a row may be named again."""
        select_rows(self._cache, beams.to(self.prompt.device))

    def run(
        self, words: Int[Tensor, "rows words"]
    ) -> tuple[Float[Tensor, "rows vocabulary"], Float[Tensor, "rows words"], Float[Tensor, " rows"]]:
        """Behind each row's last word: the logits, and its attention to the generated words and to the image."""
        count, length = words.shape
        grown = {name: _grown(name, value, count, length) for name, value in self.kwargs.items()}
        inputs = self.model.prepare_inputs_for_generation(
            torch.cat([self.prompt.expand(count, -1), words], 1),
            next_sequence_length=1,
            is_first_iteration=False,
            **with_cache(grown, self._cache, self.model),
        )
        output = self.model(**inputs, return_dict=True)
        row = self.loop.row
        own = len(self.prompt)
        if row.shape[1] != own + length:
            raise InputError(
                f"opera reads the attention to each position of the prompt, and {row.shape[1] - length} of {own} are "
                "there: leave out the method that shortens the prompt, and caches that let go of it."
            )
        return output.logits[:, -1].float(), row[:, own:], row[:, :own][:, self.image.cpu()].sum(-1)


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
