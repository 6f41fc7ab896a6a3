"""The command line on a random LLaVA of two layers, saved as a folder like any from the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from PIL import Image

from sightline.methods.base import METHODS, Method, register, setting

CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}{% endfor %}{% endfor %} answer :"
)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as the one JSON document it must be."""
        assert self.code == 0, self.err
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} in a JSON document"))

    @property
    def sentence(self) -> str:
        """The one line on standard error of a command that failed."""
        assert self.code != 0, self.out
        assert self.out == ""
        (line,) = self.err.strip().splitlines()
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")


@pytest.fixture
def sightline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs the command line in this process, in an empty folder."""
    from sightline.cli.main import cli

    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Ended:
        result = CliRunner().invoke(cli, [str(word) for word in words])
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA with 2 decoder layers and 9 image tokens, random weights."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    folder = tmp_path_factory.mktemp("models") / "tiny"
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    processor = _processor()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes, image_size=24, patch_size=8, projection_dim=32),
        text_config=LlamaConfig(**sizes, vocab_size=len(processor.tokenizer), **special),
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=9,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        **special,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _processor() -> Any:
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
    words = "is there a red blue green circle square what do you see how many answer yes no ? : . ,".split()
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    size = {"height": 24, "width": 24}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=size, do_center_crop=False, crop_size=size),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        ),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A photograph to ask about."""
    path = tmp_path / "picture.png"
    Image.effect_noise((40, 30), 80).convert("RGB").save(path)
    return path


@pytest.fixture
def data(picture: Path) -> Path:
    """Four samples; the third names an image that is not there."""
    names = [picture.name, picture.name, "missing.png", picture.name]
    prompts = ["Is there a red circle?", "What do you see?", "Is there a blue square?", "How many?"]
    path = picture.parent / "data.jsonl"
    lines = [
        {"id": f"s{number}", "image": name, "prompt": prompt, "answer": "yes"}
        for number, (name, prompt) in enumerate(zip(names, prompts, strict=True), start=1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@dataclass(frozen=True)
class Nothing(Method):
    """Changes nothing."""

    name: ClassVar[str] = "nothing"
    strength: float = setting(0.5, "how little")

    @contextmanager
    def on(self, model: Any, layout: Any = None) -> Iterator[None]:
        yield


@pytest.fixture
def idle() -> Iterator[str]:
    """A method that does nothing, registered for the length of a test; yields its spec."""
    register(Nothing)
    yield "nothing:strength=0.25"
    METHODS.forget("nothing")
