"""Models behind an address: `openai:URL#NAME`, asked through the official client, as vLLM and SGLang serve them.

The key comes from the environment (OPENAI_API_KEY) and is written nowhere. Images travel as data: URIs. What a server
has no time for now (429, 5xx, a broken connection) is asked again, with growing pauses and jitter, as long as its
Retry-After says where it says it. Methods and readings need the model in this process.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sightline.data.messages import IMAGE_MARKER
from sightline.errors import InputError, RunError

if TYPE_CHECKING:
    from PIL import Image

    from sightline.data.sample import Sample

PREFIX = "openai:"
KEY = "OPENAI_API_KEY"
RETRIES = 6
SECONDS = 600.0
"""How long one answer may take."""


@dataclass(frozen=True)
class ServedModel:
    """A model behind an address. url: up to and with /v1. name: what the server calls it."""

    url: str
    name: str
    seconds: float = SECONDS
    retries: int = RETRIES

    def client(self) -> Any:
        """The official client. InputError where its library is not installed."""
        try:
            import openai
        except ImportError as error:
            raise InputError("A served model needs the openai library: pip install 'sightline-vlm[openai]'.") from error
        key = os.environ.get(KEY) or "none"
        return openai.OpenAI(base_url=self.url, api_key=key, timeout=self.seconds, max_retries=self.retries)

    def answer_all(
        self, client: Any, samples: Sequence[Sample], new_tokens: int, side: int | None = None, **drawing: Any
    ) -> list[dict[str, Any] | Exception]:
        """The answer to each, all asked at once: {"response", "tokens"}, or why there is none.

        side: longest side of an image in pixels; None: as it is. drawing: temperature, seed. Raises RunError where the
        server cannot be reached, or refuses the key or the model: no sample is to blame for that.
        """
        with ThreadPoolExecutor(max_workers=max(1, len(samples))) as pool:
            asked = [pool.submit(self._answer, client, sample, new_tokens, side, drawing) for sample in samples]
            return [each.result() for each in asked]

    def _answer(
        self, client: Any, sample: Sample, new_tokens: int, side: int | None, drawing: dict[str, Any]
    ) -> dict[str, Any] | Exception:
        import openai

        try:
            content = content_of(sample, side)
            found = client.chat.completions.create(
                model=self.name,
                messages=[{"role": "user", "content": content}],
                max_tokens=new_tokens,
                **drawing,
            )
            return _words(found)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise RunError(f"{self.url} refuses ({_said(error)}): check {KEY} and the name {self.name!r}.") from error
        except openai.RateLimitError as error:
            raise RunError(
                f"{self.url} had no time in {self.retries + 1} tries ({_said(error)}): give the same command later, or "
                "a smaller --batch-size, which is how many are asked at once."
            ) from error
        except openai.APIConnectionError as error:
            raise RunError(
                f"{self.url} cannot be reached, or broke off, in {self.retries + 1} tries ({_said(error)}): is it "
                "running? The same command continues the run."
            ) from error
        except openai.APIStatusError as error:
            return InputError(f"{self.url} answers with {error.status_code}: {_said(error)}.")
        except InputError as error:
            return error
        except Exception as error:  # what is no JSON, or JSON of other types, ends in errors of many classes
            return InputError(f"{self.url} answers with something that is no answer ({type(error).__name__}).")


def is_served(name: object) -> bool:
    """Whether a model's name is that of one behind an address."""
    return isinstance(name, str) and name.startswith(PREFIX)


def served_model(name: str) -> ServedModel:
    """The model of `openai:URL#NAME`; InputError for an address that is none, or has a password in it."""
    url, _, model = name.removeprefix(PREFIX).rpartition("#")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not model:
        raise InputError(
            f"{name[:100]!r} is no served model: openai:URL#NAME is expected, such as "
            "openai:http://localhost:8000/v1#Qwen/Qwen2.5-VL-7B-Instruct."
        )
    if parts.username or parts.password or parts.query:
        raise InputError(f"The address of a served model holds a user, password or query: put the key in {KEY} alone.")
    return ServedModel(url.rstrip("/"), model)


def content_of(sample: Sample, side: int | None = None) -> list[dict[str, Any]]:
    """A sample's words and images in the order of its prompt, images before the words where nothing marks them."""
    pictures = [_part(picture, side) for picture in sample.load_images()]
    if IMAGE_MARKER not in sample.prompt:
        return [*pictures, {"type": "text", "text": sample.prompt}]
    pieces = sample.prompt.split(IMAGE_MARKER)
    if len(pieces) - 1 != len(pictures):
        raise InputError(f"The prompt marks {len(pieces) - 1} places for {len(pictures)} images.")
    found: list[dict[str, Any]] = []
    for place, piece in enumerate(pieces):
        if piece.strip():
            found.append({"type": "text", "text": piece.strip()})
        found += pictures[place : place + 1]
    return found


def _part(picture: Image.Image, side: int | None) -> dict[str, Any]:
    if side is not None and max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def _words(found: Any) -> dict[str, Any]:
    """The answer's words and length; InputError where there are none."""
    choices = getattr(found, "choices", None)
    message = choices[0].message if choices else None
    if message is None or not isinstance(message.content, str):
        raise InputError("The server's answer holds no words.")
    tokens = getattr(getattr(found, "usage", None), "completion_tokens", None)
    return {"response": message.content.strip(), **({"tokens": tokens} if isinstance(tokens, int) else {})}


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:160].rstrip(".")
