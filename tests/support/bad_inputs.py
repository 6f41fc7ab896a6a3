"""Commands with bad inputs of every kind, made by number: the same number makes the same case."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml
from PIL import Image

from support.spoiling import (
    ESCAPES,
    SMALL,
    misspelt,
    odd_word,
    spoiled_bytes,
    spoiled_json,
    spoiled_lines,
    spoiled_spec,
)
from support.spoiling import spoiled_value as spoiled

ASK = ("--prompt", "Is there a red circle?")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA")
SPECS = (
    "vcd:alpha=1,beta=0.1", "pai:alpha=4,first_layer=0", "vaf:enhance=1.2", "var:dims=3,layers=0-1", "dola:layers=0",
    "fastv:layer=1,ratio=0.5", "opera:beams=2", "m3id", "icd", "spin", "divprune:keep=4", "random_tokens:keep=4",
    "none",
)  # fmt: skip
BENCHES = ("pope", "chair", "mme", "blink", "mmmu-pro")
COCO = {"images": [{"id": 1, "file_name": "picture.png", "width": 40, "height": 30}],
        "annotations": [{"id": 7, "image_id": 1, "caption": "A red dog on two chairs."}]}  # fmt: skip
LINES: tuple[dict[str, Any], ...] = (
    {"id": "s1", "image": "picture.png", "prompt": "Is there a red circle?", "answer": "yes"},
    {"id": "s2", "image": "picture.png", "prompt": "<image> What do you see?", "answer": "a red circle"},
    {"id": "s3", "messages": [
        {"role": "system", "content": "You see."},
        {"role": "user", "content": [{"type": "image", "image": "picture.png"}, {"type": "text", "text": "How many?"}]},
        {"role": "assistant", "content": "Two."},
    ]},
)  # fmt: skip


@dataclass(frozen=True)
class Good:
    """What works, to be spoiled: a model's folder, official files by benchmark, run folders by command."""

    model: Path
    benches: dict[str, Path]
    runs: dict[str, Path]


@dataclass(frozen=True)
class Bad:
    """A command with a bad input, to be run in its own folder. out: the run folder, where it records samples."""

    kind: str
    words: tuple[str, ...]
    out: Path | None = None


def bad_input(number: int, good: Good, folder: Path) -> Bad:
    """The case of a number; its files are written into the folder."""
    rng = Random(f"bad input {number}")
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "picture.png")
    kinds = (images, data, models, specs, configs, run_folders, benchmarks)
    return kinds[number % len(kinds)](rng, good, folder)


def asked(rng: Random, good: Good, folder: Path, kind: str, *image: object, model: Path | None = None) -> Bad:
    """One of the commands that ask a model one thing."""
    name = str(model or good.model)
    out = folder / "run"
    words: tuple[object, ...] = rng.choice((
        ("generate", name, *image, *ASK, "--new-tokens", 2),
        ("measure", name, *image, *ASK, "--new-tokens", 2, "--out", out),
        ("sinks", name, *image, *ASK, "--tau", 3, "--out", out),
        ("impact", name, *image, *ASK, "--mode", rng.choice(("local", "causal", "vision")), "--out", out),
    ))  # fmt: skip
    return Bad(kind, tuple(map(str, words)), out)


def images(rng: Random, good: Good, folder: Path) -> Bad:
    """A damaged file, an odd size or name, something that is no file."""
    made = io.BytesIO()
    kind = rng.choice(FORMATS)
    size = rng.choice((1, 3, 40, 300)), rng.choice((1, 30, 200))
    Image.effect_noise((40, 40) if kind == "ICO" else size, 80).convert("RGB").save(made, kind)
    names = ("p." + kind.lower(), "p", ESCAPES + ".png", "é" * 60 + ".png", "a b'\"$.png", ".png", "p.txt", "-p.png")
    path = folder / rng.choice(names)
    where = rng.randrange(12)
    if where > 3:
        path.write_bytes(spoiled_bytes(rng, made.getvalue()))
    elif where == 0:
        path.mkdir()
    elif where == 1:
        os.mkfifo(path)
    elif where == 2:
        path.symlink_to(path.name)
    address = ("http://x.y/p.png", "file:///p.png", "data:image/png;base64,AAAA", "data:,x", "n" * 300, "a\0b", "~")
    name = rng.choice(address) if where == 3 else str(path)
    if rng.random() < 0.3:
        file, out = folder / "data.jsonl", folder / "run"
        file.write_text("".join(json.dumps({**line, "image": name}) + "\n" for line in LINES[:2]))
        words = (rng.choice(("measure", "sinks")), good.model, "--data", file, "--limit", 2, "--out", out)
        return Bad("images", tuple(map(str, words)), out)
    return asked(rng, good, folder, "images", "--image", name)


def data(rng: Random, good: Good, folder: Path) -> Bad:
    """Lines with wrong fields, types and bytes."""
    file, out = folder / rng.choice(("data.jsonl", "data.json")), folder / "run"
    file.write_bytes(spoiled_lines(rng, list(LINES)))
    words: tuple[object, ...] = rng.choice((
        ("measure", good.model, "--data", file, "--new-tokens", 2, "--out", out),
        ("measure", good.model, "--data", file, "--queries", "prompt", "--batch-size", 3, "--out", out),
        ("sinks", good.model, "--data", file, "--tau", 3, "--out", out),
        ("train", good.model, "--data", file, "--steps", 1, "--no-eval", "--set", "layers=all", "--out", folder / "t"),
        ("train-data", "negatives", "--data", file, "--out", folder / "n.jsonl"),
    ))  # fmt: skip
    return Bad("data", tuple(map(str, words)), out)


def models(rng: Random, good: Good, folder: Path) -> Bad:
    """A model's folder with one file spoiled or gone, or no such model."""
    if rng.random() < 0.1:
        return asked(rng, good, folder, "models", "--image", folder / "picture.png", model=Path(odd_word(rng) or "."))
    model = folder / "model"
    shutil.copytree(good.model, model)
    file = rng.choice(sorted(path for path in model.rglob("*") if path.is_file()))
    content = file.read_bytes()
    if rng.random() < 0.15:
        file.unlink()
    elif file.suffix == ".json":
        file.write_bytes(spoiled_json(rng, json.loads(content), SMALL))
    elif file.suffix == ".jinja":
        file.write_text(misspelt(rng, misspelt(rng, content.decode())), encoding="utf-8", errors="surrogatepass")
    else:
        file.write_bytes(spoiled_bytes(rng, content))
    return asked(rng, good, folder, "models", "--image", folder / "picture.png", model=model)


def specs(rng: Random, good: Good, folder: Path) -> Bad:
    """Words of the command line that are nothing, or out of range."""
    few = ("--data", "shapes", "--limit", "1", "--new-tokens", "2")
    image, out = ("--image", str(folder / "picture.png"), *ASK), folder / "run"
    impact = ("impact", *image, "--out", out)
    spec, word = spoiled_spec(rng, rng.choice(SPECS)), odd_word(rng)
    training = ("train", "--data", "shapes", "--limit", "2", "--steps", "1", "--no-eval", "--out", folder / "t")
    options: tuple[tuple[tuple[object, ...], str, str], ...] = (
        (("generate", *image, "--new-tokens", "2"), "--method", spec),
        (("measure", *few, "--out", out), "--method", spec),
        (("eval", "--bench", "shapes-pope", "--limit", "2", "--out", out), "--method", spec),
        (("eval", "--limit", "2", "--out", out), "--bench", spoiled_spec(rng, "shapes-pope")),
        (("measure", *few, "--out", out), rng.choice(("--queries", "--stages", "--published", "--maps")), word),
        (impact, rng.choice(("--positions", "--layers")), spoiled_spec(rng, "0,1-2,3+4")),
        (impact, rng.choice(("--row", "--target", "--mode", "--tokens", "--unit", "--fill", "--compare")), word),
        (training, "--set", spoiled_spec(rng, rng.choice(("layers=all", "margin=0.5", "kind=learned", "keep=best")))),
        (training, rng.choice(("--preset", "--learning-rate", "--seed")), word),
        (("generate", *image), "--generation", spoiled_spec(rng, "repetition_penalty=1.1")),
        (("generate", *image), "--processor", spoiled_spec(rng, "do_resize=true")),
        (("generate", *image), "--chat", spoiled_spec(rng, "enable_thinking=false")),
        (("generate",), rng.choice(("--prompt", "--device", "--dtype", "--sinks", "--layout")), word),
        (("sinks", "--data", "shapes", "--limit", "1", "--out", out), rng.choice(("--tau", "--factor")), word),
        (("app", "--no-browser"), "--port", misspelt(rng, "99999") + "x"),
    )
    (command, *rest), option, value = rng.choice(options)
    return Bad("specs", tuple(map(str, (command, good.model, *rest, f"{option}={value}"))), out)


def configs(rng: Random, good: Good, folder: Path) -> Bad:
    """Settings files: prompts of impact, settings of a training, a layout, sinks, labels."""
    file, out = folder / "file", folder / "run"
    image = ("--image", folder / "picture.png", *ASK)
    prompts = {"prompts": ["Is there a red circle?", {"prompt": "How many?", "id": "b", "image": "picture.png"}],
               "images": ["picture.png"], "settings": {"mode": "local", "layers": [0], "unit": "word"}}  # fmt: skip
    training = {"preset": "labels", "layers": "all", "margin": 0.4, "eval_benches": ["shapes-pope"], "lora_rank": 2}
    layout = {"text": [[0, 1], [10, None]], "image": [[1, 10]], "grid": [3, 3]}
    sinks = json.loads((good.runs["sinks"] / "sinks.json").read_bytes())
    train = ("train", good.model, "--data", "shapes", "--limit", 2, "--steps", 1, "--no-eval", "--out", folder / "t")
    words: tuple[object, ...]
    content, words = rng.choice((
        (_yaml(rng, prompts), ("impact", good.model, "--config", file, "--out", out)),
        (_yaml(rng, training), (*train, "--config", file)),
        (spoiled_json(rng, layout), ("measure", good.model, *image, "--layout", file, "--new-tokens", 2)),
        (spoiled_json(rng, sinks), ("generate", good.model, *image, "--sinks", file, "--method", "var:layers=0")),
        (spoiled_json(rng, sinks), ("measure", good.model, *image, "--sinks", file, "--new-tokens", 2)),
        (spoiled_lines(rng, [{"words": [[0, 2, 1]]}, {"words": [[3, 6, 0]]}]), (*train, "--labels", file)),
        (spoiled_json(rng, COCO), ("train-data", "negatives", "--data", file, "--images", folder, "--out", "n.jsonl")),
    ))  # fmt: skip
    if words[:2] == ("train-data", "negatives"):
        words = tuple(file.with_suffix(".json") if word == file else word for word in words)
        file = file.with_suffix(".json")
    file.write_bytes(content)
    return Bad("configs", tuple(map(str, words)), out)


def _yaml(rng: Random, settings: dict[str, Any]) -> bytes:
    text = yaml.safe_dump(spoiled(rng, spoiled(rng, settings)), allow_unicode=True)
    content = text.encode("utf-8", "surrogatepass")
    return spoiled_bytes(rng, content) if rng.random() < 0.3 else content


def run_folders(rng: Random, good: Good, folder: Path) -> Bad:
    """A run folder with one file spoiled or gone, continued, scored or reported."""
    command = rng.choice(sorted(good.runs))
    run = folder / "run"
    shutil.copytree(good.runs[command], run)
    files = [path for path in run.rglob("*") if path.suffix in (".json", ".jsonl") and path.name != "words.json"]
    file = rng.choice(sorted(files))
    if rng.random() < 0.1:
        file.unlink()
    elif file.suffix == ".jsonl":
        file.write_bytes(spoiled_lines(rng, [json.loads(line) for line in file.read_bytes().splitlines()]))
    else:
        file.write_bytes(spoiled_json(rng, json.loads(file.read_bytes())))
    words: list[tuple[object, ...]] = [("report", run), ("report", run, good.runs["measure"], "--out", "page.html")]
    again = json.loads((good.runs[command] / "words.json").read_text()) if command != "train" else None
    words += [(*again, "--out", run)] * 2 if again else [(*TRAINING, "--out", run, "--resume")]
    if command == "eval":
        words += [("score", "shapes-pope", "--answers", run)]
        words += [("compare", "shapes-pope", "--answers", run, "--answers", good.runs["eval"], "--method", "none")]
        words += [(*again, "--out", folder / "new", "--fail-if-worse", run)]
    if command == "sinks":
        words += [("measure", good.model, "--data", "shapes", "--limit", 1, "--sinks", run / "sinks.json")]
    chosen = [good.model if word == "MODEL" else word for word in rng.choice(words)]
    return Bad("run folders", tuple(map(str, chosen)), run)


def benchmarks(rng: Random, good: Good, folder: Path) -> Bad:
    """Official files and answers in which something is wrong."""
    name = rng.choice(BENCHES)
    place, out = folder / name, folder / "run"
    shutil.copytree(good.benches[name], place)
    texts = [
        path for path in place.rglob("*") if path.suffix in (".json", ".jsonl", ".txt", ".tsv", ".csv", ".parquet")
    ]
    file = rng.choice(sorted(texts))
    answers = folder / "answers.jsonl"
    ids = rng.choice(("id", "question_id", "idx", "index"))
    lines = [{ids: number, "prediction": "yes", "answer": "no", "question": "Is it?"} for number in range(1, 4)]
    answers.write_bytes(spoiled_lines(rng, lines) if rng.random() < 0.5 else b"\n".join(map(_line, lines)))
    if rng.random() < 0.7:
        file.write_bytes(_spoiled_file(rng, file))
    words: tuple[object, ...] = rng.choice((
        ("score", name, "--answers", answers, "--data", place),
        ("compare", name, "--answers", answers, "--answers", answers, "--data", place),
        ("eval", good.model, "--bench", f"{name}:{place}", "--limit", 2, "--new-tokens", 2, "--out", out),
        ("measure", good.model, "--data", f"{name}:{place}", "--limit", 1, "--new-tokens", 2, "--out", out),
    ))  # fmt: skip
    return Bad("benchmarks", tuple(map(str, words)), out)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode()


def _spoiled_file(rng: Random, file: Path) -> bytes:
    content = file.read_bytes()
    try:
        if file.suffix == ".json":
            return spoiled_json(rng, json.loads(content))
        if file.suffix == ".jsonl" or content.startswith(b"{"):
            return spoiled_lines(rng, [json.loads(line) for line in content.splitlines()])
    except ValueError:
        pass
    return spoiled_bytes(rng, content)


TRAINING = ("train", "MODEL", "--data", "shapes", "--limit", "2", "--steps", "2", "--batch-size", "1", "--no-eval",
            "--set", "save_steps=1", "--set", "log_steps=1", "--set", "layers=all", "--seed", "1")  # fmt: skip


def make_good(run: Callable[..., Any], model: Path, folder: Path) -> Good:
    """What works, by the commands themselves. run: the command line."""
    few = ("--data", "shapes", "--limit", 2)
    image = folder / "picture.png"
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (200, 30, 30)).save(image)
    commands: dict[str, tuple[object, ...]] = {
        "measure": ("measure", "MODEL", *few, "--new-tokens", 2, "--maps", 1),
        "eval": ("eval", "MODEL", "--bench", "shapes-pope", "--limit", 2, "--method", "none", "--method", SPECS[1]),
        "sinks": ("sinks", "MODEL", *few, "--tau", 3),
        "impact": ("impact", "MODEL", "--image", image, *ASK, "--mode", "local", "--layers", 0),
        "train": TRAINING,
    }
    runs, benches = {}, {}
    for name, words in commands.items():
        runs[name] = folder / "runs" / name
        ended = run(*(model if word == "MODEL" else word for word in words), "--out", runs[name])
        assert ended.code == 0, ended.err
        if name != "train":
            (runs[name] / "words.json").write_text(json.dumps(list(map(str, words))))
    for name in BENCHES:
        benches[name] = folder / "benches" / name
        ended = run("shapes", "--bench", name, "--out", benches[name], "--count", 8 if name == "chair" else 14)
        assert ended.code == 0, ended.err
    return Good(model, benches, runs)
