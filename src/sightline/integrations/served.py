"""Models behind an address: `openai:URL#NAME`, reached through the official client, as vLLM and SGLang serve them.

The key comes from the environment (OPENAI_API_KEY) and is written nowhere. Images travel as data: URIs. What a server
has no time for now (429, 5xx, a broken connection) is sent again, after growing pauses with jitter; where it says how
long to wait (Retry-After), all requests wait. Methods and readings need the model in this process.
"""

from __future__ import annotations

import base64
import io
import os
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
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

PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the second try, and before any, where the server does not say how long."""

LONGEST = 900.0
"""Seconds that a server's Retry-After is followed at most."""


class Patience:
    """When the next request may be sent: all wait as long as Retry-After says, else the one that failed alone."""

    def __init__(self) -> None:
        self._until, self._lock = 0.0, threading.Lock()

    def wait(self) -> None:
        """Until the server takes requests again."""
        while (left := self._until - time.monotonic()) > 0:
            time.sleep(min(left, 5.0))

    def take(self, seconds: float | None, tries: int) -> None:
        """What the server asks for, at most LONGEST; else PAUSE doubled with each try, less up to a quarter."""
        if seconds is None:
            time.sleep(min(PAUSE * 2.0**tries, LONGEST_PAUSE) * (1 - random.random() / 4))
            return
        with self._lock:
            self._until = max(self._until, time.monotonic() + min(seconds, LONGEST))


@dataclass(frozen=True)
class ServedModel:
    """A model behind an address.

    url      up to and with /v1
    name     what the server calls it
    seconds  how long one answer may take
    retries  how often a request is sent again
    patience when the next request may be sent, for all that are under way
    lacks    what this server has refused; left out from then on
    """

    url: str
    name: str
    seconds: float = SECONDS
    retries: int = RETRIES
    patience: Patience = field(default_factory=Patience, compare=False, repr=False)
    lacks: set[str] = field(default_factory=set, compare=False, repr=False)

    def client(self) -> Any:
        """The official client. InputError where its library is not installed."""
        try:
            import openai
        except ImportError as error:
            raise InputError("A served model needs the openai library: pip install 'sightline-vlm[openai]'.") from error
        key = os.environ.get(KEY) or "none"
        return openai.OpenAI(base_url=self.url, api_key=key, timeout=self.seconds, max_retries=0)

    def answer_all(
        self, client: Any, samples: Sequence[Sample], new_tokens: int, side: int | None = None, **drawing: Any
    ) -> list[dict[str, Any] | Exception]:
        """The answer to each, all sent at once, or why there is none.

        An answer is {"response", "tokens", "logprobs"}: its words, how many tokens, and each token's log-probability,
        the last two where the server gives them. side: longest side of an image in pixels; None: as it is. drawing:
        temperature, seed. A RunError among them says that the server cannot be reached, or refuses the key or the
        model: no sample is to blame for that.
        """
        with ThreadPoolExecutor(max_workers=max(1, len(samples))) as pool:
            sent = [pool.submit(self._answer, client, sample, new_tokens, side, drawing) for sample in samples]
            return [each.result() for each in sent]

    def _answer(
        self, client: Any, sample: Sample, new_tokens: int, side: int | None, drawing: dict[str, Any]
    ) -> dict[str, Any] | Exception:
        import openai

        try:
            messages = [{"role": "user", "content": message_content(sample, side)}]
            fields = {"max_tokens": new_tokens, "logprobs": True, **drawing}
            return _words(self._request(client, messages, fields))
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            return RunError(f"{self.url} refuses ({_text_of(error)}): check {KEY} and the name {self.name!r}.")
        except openai.RateLimitError as error:
            return RunError(
                f"{self.url} had no time in {self.retries + 1} tries ({_text_of(error)}): give the same command later, "
                "or a smaller --batch-size, which is how many are sent at once."
            )
        except openai.APIConnectionError as error:
            return RunError(
                f"{self.url} cannot be reached, or broke off, in {self.retries + 1} tries ({_text_of(error)}): is it "
                "running? The same command continues the run."
            )
        except openai.APIStatusError as error:
            return InputError(f"{self.url} answers with {error.status_code}: {_text_of(error)}.")
        except InputError as error:
            return error
        except Exception as error:  # what is no JSON, or JSON of other types, ends in errors of many classes
            return InputError(f"{self.url} answers with something that is no answer ({type(error).__name__}).")

    def _request(self, client: Any, messages: list[dict[str, Any]], fields: dict[str, Any]) -> Any:
        """The server's answer; what it has no time for is sent again, and what it does not know is left out."""
        import openai

        tries = 0
        while True:
            known = {_SPELLED.get(name, name) if name in self.lacks else name: value for name, value in fields.items()}
            self.patience.wait()
            try:
                return client.chat.completions.create(
                    model=self.name,
                    messages=messages,
                    **{name: value for name, value in known.items() if name is not None},
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = {name for name in _SPELLED if name in _text_of(error, 10_000)} - self.lacks
                if not refused:
                    raise
                self.lacks.update(refused)
            except (openai.APIConnectionError, openai.APIStatusError) as error:
                status = getattr(error, "status_code", None)
                if tries == self.retries or not (status is None or status in AGAIN or status >= 500):
                    raise
                self.patience.take(_retry_after(error), tries)
                tries += 1


_SPELLED = {"logprobs": None, "seed": None, "max_tokens": "max_completion_tokens"}
"""What some servers refuse, and what they are then given: nothing, or the same under another name."""

AGAIN = (408, 409, 429)
"""Besides 5xx, what is sent again."""


def _retry_after(error: Any) -> float | None:
    """Seconds that the server asks to wait, as a number or a date; None where it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    text = headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


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


def message_content(sample: Sample, side: int | None = None) -> list[dict[str, Any]]:
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
    answer = {"response": message.content.strip(), **({"tokens": tokens} if isinstance(tokens, int) else {})}
    given = getattr(getattr(next(iter(choices or ())), "logprobs", None), "content", None)
    values = [getattr(each, "logprob", None) for each in given or ()]
    if values and all(isinstance(value, int | float) for value in values):
        answer["logprobs"] = [round(float(value), 6) for value in values if value is not None]
    return answer


def _text_of(error: Exception, most: int = 160) -> str:
    """The client's words, and the server's where those leave them out."""
    body = getattr(error, "body", None)
    text = str(error) if " - " in str(error) or not body else f"{error} - {body}"
    return " ".join(text.split())[:most].rstrip(".")
