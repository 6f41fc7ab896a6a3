"""Peak memory of a training step's language loss, over the answer's logits alone and over all; a process each.

    python benchmarks/training_memory.py --out FILE

A decoder of two narrow layers and 151,936 words (Qwen2.5's), so that what the logits take is not hidden; the answer is
32 tokens behind the prompt. `all` at 15,301 positions takes 28 GB and is not run by default.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

import torch
from common import machine, write

from sightline.training.language import language_pass

WORDS, ANSWER = 151_936, 32
RUNS = ("none 2048", "all 2048", "answer 2048", "none 15301", "answer 15301")
"""Which logits, and of how many positions; none: a forward and a backward pass without a loss over words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, metavar=("LOGITS", "LENGTH"), help=argparse.SUPPRESS)
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(peak(options.one[0], int(options.one[1]))))
        return
    document: dict[str, Any] = {"benchmark": "training_memory", **machine("cpu"), "words": WORDS, "peak_bytes": {}}
    for run in RUNS:
        ended = subprocess.run(
            [sys.executable, __file__, "--one", *run.split()], capture_output=True, text=True, check=True
        )
        document["peak_bytes"][run] = json.loads(ended.stdout.splitlines()[-1])
        write(document, options.out)


def peak(logits: str, length: int) -> int:
    """The most bytes that the process held."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(**sizes, num_key_value_heads=2, vocab_size=WORDS, max_position_embeddings=32_768)
    model: Any = AutoModelForCausalLM.from_config(config)
    ids = torch.randint(0, WORDS, (1, length))
    labels = torch.full_like(ids, -100)
    labels[0, -ANSWER:] = ids[0, -ANSWER:]
    if logits == "none":
        model.model(input_ids=ids).last_hidden_state.sum().backward()
    elif logits == "all":
        model(input_ids=ids, labels=labels).loss.backward()
    else:
        language_pass(model, model, {"input_ids": ids, "labels": labels}).loss.backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
