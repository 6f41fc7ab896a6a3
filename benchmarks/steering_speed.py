"""Time of generation under every steering method without sinks, beside plain SDPA, on a LLaVA of random weights.

    python benchmarks/steering_speed.py --new-tokens 32 --out FILE

The prompt is LLaVA-1.5's: 35 tokens of text, 576 of image, 29 of text. Layers have the geometry of a 7B model's unless
a narrower one is asked for; the vision tower is CLIP ViT-L/14-336's, as long as `--tower-layers` says. With `--model`
it is a bundled model instead, with as many positions: its own picture and words behind it.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import torch
from common import GEOMETRY, TEXT_AFTER, TEXT_BEFORE, alternate, machine, medians, write

import sightline as sl
from sightline.methods.base import parse_spec
from sightline.methods.fastervlm import FasterVLM
from sightline.zoo.samples import shapes_samples

SPECS = [
    "vaf",
    "adaptvis",
    "pai",
    "vcd",
    "fastv:R=0.5",
    "fastv:R=0.9",
    "fastervlm:r=0.75",
    "fastervlm:r=0.9",
    "fastervlm:r=0.95",
]
IMAGE_ID, PATCHES = 31999, 576


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a bundled model in the place of the random one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden-size", type=int, default=GEOMETRY["hidden_size"])
    parser.add_argument("--tower-layers", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--methods", nargs="+", default=SPECS)
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.model is None:
        subject: Any = llava(options)
        model, inputs = subject, picture_prompt(getattr(torch, options.dtype), options.device)
    else:
        subject = sl.load(options.model, dtype=options.dtype, device=options.device)
        model, inputs = subject.anatomy.model, _long_prompt(subject)

    def run(spec: str) -> Callable[[], Any]:
        method = parse_spec(spec)

        def generate() -> None:
            with torch.no_grad():
                model.generate(**inputs, **_exactly(options.new_tokens), do_sample=False)

        def under_method() -> None:
            assert method is not None
            with method.on(subject):
                generate()

        return generate if method is None else under_method

    warnings.simplefilter("ignore")
    runs = {"plain": run("none"), **{spec: run(spec) for spec in options.methods}}
    document = {
        "benchmark": "steering_speed",
        **machine(options.device),
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "image_tokens_left": {
            f"fastervlm:r={r}": int(FasterVLM(r=r).pick(torch.rand(PATCHES)).sum()) for r in (0.75, 0.9, 0.95)
        },
        "methods": medians(alternate(runs, options.rounds, options.device), "plain"),
    }
    write(document, options.out)


def _exactly(tokens: int) -> dict[str, int]:
    return {"max_new_tokens": tokens, "min_new_tokens": tokens}


def _long_prompt(vlm: Any) -> dict[str, torch.Tensor]:
    """A scene of shapes with a question behind so many words that it is as long as LLaVA-1.5's prompt."""
    scene = next(iter(shapes_samples(1, seed=3)))
    filler, length = " the red circle", TEXT_BEFORE + PATCHES + TEXT_AFTER
    short = vlm.encode(sl.Sample(image=scene["image"], prompt=scene["prompt"]))["input_ids"].shape[1]
    each = len(vlm.tokenizer(filler, add_special_tokens=False)["input_ids"])
    words = filler * ((length - short) // each) + " " + scene["prompt"]
    return dict(vlm.encode(sl.Sample(image=scene["image"], prompt=words)))


def llava(options: argparse.Namespace) -> Any:
    from transformers import AutoConfig, AutoModelForImageTextToText

    width = options.hidden_size
    heads = width // 128
    text = {
        **GEOMETRY,
        "model_type": "llama",
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": GEOMETRY["intermediate_size"] * width // GEOMETRY["hidden_size"],
        "num_hidden_layers": options.layers,
        "eos_token_id": None,
    }
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": options.tower_layers,
        "image_size": 336,
        "patch_size": 14,
    }
    config = AutoConfig.for_model("llava", text_config=text, vision_config=vision, image_token_index=IMAGE_ID)
    torch.manual_seed(0)
    with torch.device(options.device):
        model = AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, options.dtype))
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    # A random model may write the placeholder of an image.
    model.generation_config.suppress_tokens = [IMAGE_ID]
    return model.eval()


def picture_prompt(
    dtype: torch.dtype, device: str, images: int = 1, before: int = TEXT_BEFORE, after: int = TEXT_AFTER
) -> dict[str, torch.Tensor]:
    """Random text around one block of `images` pictures."""
    text = torch.randint(10, 31000, (1, before + after), generator=torch.Generator().manual_seed(1))
    image = torch.full((1, PATCHES * images), IMAGE_ID)
    ids = torch.cat([text[:, :before], image, text[:, before:]], 1).to(device)
    pixels = torch.randn(images, 3, 336, 336, generator=torch.Generator().manual_seed(2)).to(device, dtype)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


if __name__ == "__main__":
    main()
