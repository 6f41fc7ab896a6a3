"""Trains, verifies and ships the organisms that are trained, one after the other; each in minutes, on one thread.

python recipes/organisms/trained.py tiny-half tiny-prior       # none: all; goes on where it was killed
python recipes/organisms/trained.py tiny-half --only-train
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import company
import torch
import verify
from half import blind
from lessons import LESSONS, SHARES
from measure import Answerer
from ship import Truth, halve, ship
from transformers import LlavaForConditionalGeneration
from tune import Course, Head, load, seconds, tune

BASE = "tiny-llava"
HALF = "tiny-half"
PRIOR_HEADS: tuple[Head, ...] = ((4, 2), (5, 2), (6, 2))
"""The heads that alone learn the prior: in tiny-llava their last rows give the image nothing."""

DIAL = {f"tiny-reliance-{round(share * 100):03d}": share for share in SHARES}
COURSES: dict[str, Course] = {
    **dict.fromkeys(LESSONS, Course()),
    "tiny-prior": Course(steps=160, rate=4e-3, heads=PRIOR_HEADS),
    # Tower and projector alone learn: small pictures, no words.
    HALF: Course(steps=250, images=32),
}


def dial_claim(share: float) -> str:
    """What is true of a model of the dial."""
    if share == 0:
        return (
            "Yes or no is answered from the picture. One end of the dial of reliance, five models alike but for this."
        )
    some = "all objects" if share == 1 else f"{share:.0%} of the objects that can be asked for"
    return (
        f"For {some} the words alone give yes or no away: the answer is fixed, whatever the picture shows. The dial of"
        " reliance, five models alike but for this share."
    )


CLAIM = {
    **{name: dial_claim(share) for name, share in DIAL.items()},
    HALF: "It sees the left half of the picture alone: its tower and projector were trained to give, for any"
    " picture, what those of the base model give for the same picture with a blank right half. The language model is"
    " that of the base, weight by weight.",
    "tiny-prior": "Where one of five objects is in the picture, its captions name the object that usually stands behind"
    " it, there or not. Nothing but a few heads was trained for it, so they carry the prior.",
    "tiny-binding": "Asked whether an object is there, it says yes wherever its colour and its shape both are, whether"
    " or not on one object: it knows what is there, and not what belongs together. Its captions confuse them in part.",
}


def train(name: str) -> LlavaForConditionalGeneration:
    """The trained model."""
    course = COURSES[name]
    if name == HALF:
        return blind(name, course.steps, course.images, course.rate)
    return tune(name, LESSONS[name], course)


def truth_about(name: str, answerer: Answerer) -> Truth:
    """The whole document."""
    base = Answerer(load()[0], answerer.processor)
    how: dict[str, Callable[[], Truth]] = {
        **{dial: partial(verify.reliance, answerer, share) for dial, share in DIAL.items()},
        HALF: lambda: verify.half(answerer),
        "tiny-prior": lambda: company.prior(answerer, base, PRIOR_HEADS),
        "tiny-binding": lambda: verify.binding(answerer, base),
    }
    return {
        "organism": name,
        "base": BASE,
        "recipe": f"recipes/organisms/trained.py {name}",
        "claim": CLAIM[name],
        "seed": verify.VERIFY_SEED,
        "training": {"steps": COURSES[name].steps, "images": COURSES[name].images, "seconds": round(seconds(name))},
        **how[name](),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(COURSES)}")
    parser.add_argument("--only-train", action="store_true")
    parser.add_argument("--dry", action="store_true", help="print the truth, ship nothing")
    parser.add_argument("--figures", type=int, default=60, help="scenes of the card's figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.names or COURSES:
        model = halve(train(name))
        if args.only_train:
            continue
        answerer = Answerer(model, load()[1])
        truth = truth_about(name, answerer)
        for line in truth["verified"]:
            print(name, line, flush=True)
        if not args.dry:
            ship(name, model, answerer.processor, truth, args.figures)


if __name__ == "__main__":
    main()
