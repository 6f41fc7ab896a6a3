"""Every figure of a model card, on freshly drawn scenes, by generating the answer through the chat template.

python recipes/common/figures.py FOLDER [--scenes 500] [--out figures.json]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.append(str(Path(__file__).parents[1]))

import sightline as sl
from common.data import MAKERS
from sightline.zoo import questions as ask
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import NEGATIVES, Scene, draw_scenes

EVALUATION_SEED = 7
"""Scenes of this seed are drawn nowhere in training (1, 101) or in its checks (2)."""
Pair = tuple[Scene, Question]


class Speaker:
    """A checkpoint folder that answers questions, many at a time, greedily.

    size: side in pixels of the pictures, where a question does not say otherwise.
    """

    def __init__(self, folder: Path, size: int, batch: int = 50) -> None:
        vlm = sl.load(folder)  # as a user loads it: a processor's video part needs no torchvision then
        self.model, self.processor = vlm.model, vlm.processor
        self.size, self.batch = size, batch

    @torch.no_grad()
    def answers(self, pairs: list[Pair], size: int | None = None) -> list[str]:
        """The generated answers, special tokens removed; `size` is the side of the rendered pictures in pixels."""
        said: list[str] = []
        for start in range(0, len(pairs), self.batch):
            part = pairs[start : start + self.batch]
            texts = [self._chat(question.prompt) for _, question in part]
            images = [render(scene, size or self.size) for scene, _ in part]
            inputs = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
            tokens = self.model.generate(**inputs, max_new_tokens=48, do_sample=False)
            new = tokens[:, inputs["input_ids"].shape[1] :]
            said.extend(text.strip() for text in self.processor.batch_decode(new, skip_special_tokens=True))
        return said

    def _chat(self, prompt: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def yes_no_figures(speaker: Speaker, scenes: list[Scene], how: str, size: int | None = None) -> dict[str, float]:
    """POPE's figures on one present and one absent kind a scene, asked in the phrase of POPE."""
    pairs = [
        (scene, question)
        for index, scene in enumerate(scenes)
        for question in ask.pope(scene, how, random.Random(f"evaluation/{how}/{index}"))
    ]
    said = speaker.answers(pairs, size)
    outcomes = [(question.answer, answer) for (_, question), answer in zip(pairs, said, strict=True)]
    true_yes = sum(pair == ("yes", "yes") for pair in outcomes)
    said_yes = sum(answer == "yes" for _, answer in outcomes)
    precision = true_yes / max(1, said_yes)
    recall = true_yes / max(1, sum(truth == "yes" for truth, _ in outcomes))
    return {
        "n": len(pairs),
        "accuracy": sum(truth == answer for truth, answer in outcomes) / len(pairs),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(1e-9, precision + recall),
        "yes_ratio": said_yes / len(pairs),
        "unparsed": sum(answer not in ("yes", "no") for _, answer in outcomes),
    }


def exact_figures(
    speaker: Speaker, scenes: list[Scene], make: Callable[[Scene, random.Random], Question], size: int | None = None
) -> dict[str, float]:
    """Share of answers said exactly, one question a scene."""
    pairs = [(scene, make(scene, random.Random(f"evaluation/{index}"))) for index, scene in enumerate(scenes)]
    said = speaker.answers(pairs, size)
    right = [question.answer == answer for (_, question), answer in zip(pairs, said, strict=True)]
    return {"n": len(pairs), "accuracy": sum(right) / len(right)}


def choice_figures(speaker: Speaker, scenes: list[Scene]) -> dict[str, Any]:
    """Multiple choice of 2 to 10 options, as many of each number."""
    pairs = [
        (scene, ask.choice(scene, 2 + index % 9, random.Random(f"evaluation/choice/{index}")))
        for index, scene in enumerate(scenes)
    ]
    right: dict[int, list[bool]] = defaultdict(list)
    for (_, question), answer in zip(pairs, speaker.answers(pairs), strict=True):
        right[len(question.options)].append(question.answer == answer)
    everything = [value for values in right.values() for value in values]
    by_options = {str(options): sum(values) / len(values) for options, values in sorted(right.items())}
    return {"n": len(pairs), "accuracy": sum(everything) / len(everything), "by_options": by_options}


def caption_figures(speaker: Speaker, scenes: list[Scene], size: int | None = None) -> dict[str, float]:
    """Objects named against objects there (distinct kinds, summed over captions); CHAIR's shares; exact captions."""
    pairs = [(scene, ask.caption(scene)) for scene in scenes]
    named = true = both = invented = mentions = captions_with = exact = 0
    for (scene, question), text in zip(pairs, speaker.answers(pairs, size), strict=True):
        said, there = ask.mentioned(text), set(scene.kinds)
        named, true, both = named + len(set(said)), true + len(there), both + len(set(said) & there)
        wrong = sum(kind not in there for kind in said)
        invented, mentions, captions_with = invented + wrong, mentions + len(said), captions_with + (wrong > 0)
        exact += text == question.answer
    precision, recall = both / max(1, named), both / true
    return {
        "n": len(pairs),
        "object_precision": precision,
        "object_recall": recall,
        "object_f1": 2 * precision * recall / max(1e-9, precision + recall),
        "chair_i": invented / max(1, mentions),
        "chair_s": captions_with / len(pairs),
        "exact": exact / len(pairs),
    }


def evaluate(folder: Path, count: int, size: int = 48, others: Sequence[int] = ()) -> dict[str, Any]:
    """Every figure of the card, with the settings it was measured under.

    size: side in pixels of the pictures. others: further sides, at which yes/no on random negatives and captions are
    measured too.
    """
    speaker = Speaker(folder, size)
    scenes = list(draw_scenes(count, EVALUATION_SEED))
    with_colour = [scene for scene in scenes if ask.single_shapes(scene)]
    figures = {
        "settings": {
            "scenes": count,
            "scene_seed": EVALUATION_SEED,
            "size": size,
            "decoding": "greedy, chat template, one question a conversation",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "parameters": sum(parameter.numel() for parameter in speaker.model.parameters()),
        "yes_no": {how: yes_no_figures(speaker, scenes, how) for how in NEGATIVES},
        "multiple_choice": choice_figures(speaker, scenes),
        "caption": caption_figures(speaker, scenes),
        "other": {
            "single attribute (yes/no)": exact_figures(speaker, scenes, MAKERS["attribute"]),
            "counting": exact_figures(speaker, scenes, MAKERS["count"]),
            "color of": exact_figures(speaker, with_colour, MAKERS["colour"]),
            "what is at": exact_figures(speaker, scenes, MAKERS["position"]),
            "is it at (yes/no)": exact_figures(speaker, scenes, MAKERS["place"]),
            "yes/no, any phrasing, near misses too": exact_figures(speaker, scenes, MAKERS["existence"]),
            "the same at 336 pixels": exact_figures(speaker, scenes, MAKERS["existence"], size=336),
        },
    }
    if others:
        figures["sizes"] = {
            str(side): {
                "yes_no": yes_no_figures(speaker, scenes, "random", side),
                "caption": caption_figures(speaker, scenes, side),
            }
            for side in others
        }
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--size", type=int, default=48, help="side of the pictures in pixels")
    parser.add_argument("--other-size", type=int, action="append", default=[], help="a further side; may be repeated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    text = json.dumps(evaluate(args.folder, args.scenes, args.size, args.other_size), indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
