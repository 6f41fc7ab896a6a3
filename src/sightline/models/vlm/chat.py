"""A conversation in the words of a model's chat template."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.text import nearest

if TYPE_CHECKING:
    from sightline.data.messages import Turn
    from sightline.data.sample import Sample
    from sightline.models.anatomy import Anatomy

PATIENCE = 30.0
"""Seconds after which a chat template counts as one that never ends."""

_BUILT_IN = ("messages", "add_generation_prompt", "bos_token", "eos_token", "raise_exception", "strftime_now")
_endless: set[str] = set()


def conversation(sample: Sample, anatomy: Anatomy, token: str = "") -> list[dict[str, Any]]:
    """The turns as a chat template takes them; those of text-only models expect bare words.

    With `token` images that stand behind words are written into these, for a template that would put all images first.
    """
    if not anatomy.is_multimodal:
        return [{"role": turn.role, "content": turn.text} for turn in sample.turns]
    written = bool(token) and sample.marks_places
    return [{"role": turn.role, "content": _content(turn, token if written else "")} for turn in sample.turns]


def _content(turn: Turn, token: str) -> list[dict[str, Any]]:
    if not token:
        return [
            {"type": "text", "text": part.content} if part.kind == "text" else {"type": part.kind}
            for part in turn.parts
        ]
    media = [{"type": part.kind} for part in turn.parts if part.kind not in ("text", "image")]
    words = "".join({"text": part.content, "image": token}.get(part.kind, "") for part in turn.parts)
    return [*media, {"type": "text", "text": words}]


def keeps_places(processor: Any) -> bool:
    """Whether the chat template writes an image where it stands among the words: LLaVA's writes all images first."""
    left, right = "left of it", "right of it"

    def between(*parts: dict[str, str]) -> str:
        content = [{"type": "text", "text": left}, *parts, {"type": "text", "text": right}]
        words = rendered(processor, [{"role": "user", "content": content}], {})
        gap, reached, _ = words.partition(left)[2].partition(right)
        return gap if reached else ""

    return between({"type": "image"}) != between()


def templated(processor: Any, messages: list[dict[str, Any]], chat: Mapping[str, Any]) -> str:
    """The conversation in the model's chat template, up to where the answer begins.

    Raises:
        InputError: where the template refuses the conversation, fails, or does not end.
    """
    return rendered(processor, messages, {"add_generation_prompt": True, **chat})


def rendered(processor: Any, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> str:
    """What the chat template makes of messages; InputError where it fails, or takes more than PATIENCE seconds."""
    template = str(processor.chat_template)
    if template in _endless:
        raise InputError(f"The chat template of the model does not end within {PATIENCE:.0f} seconds: mend it.")
    found: list[Any] = []

    def render() -> None:
        try:
            found.append(processor.apply_chat_template(messages, tokenize=False, **options))
        except Exception as error:  # a template is a program of its own, and may fail in any way
            found.append(error)

    worker = threading.Thread(target=render, name="sightline-chat-template", daemon=True)
    worker.start()
    worker.join(PATIENCE)
    if not found:
        _endless.add(template)
        return rendered(processor, messages, options)
    if isinstance(found[0], Exception):
        roles = ", ".join(message["role"] for message in messages)
        reason = " ".join(str(found[0]).split())[:200] or type(found[0]).__name__
        raise InputError(f"The chat template of the model refuses the turns {roles}: {reason}") from found[0]
    return str(found[0])


def check_chat(processor: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for a chat template; InputError for one that the template does not read, and without a template."""
    if not fields:
        return {}
    template = getattr(processor, "chat_template", None)
    if not isinstance(template, str):
        raise InputError(f"The model has no chat template to set {next(iter(fields))} in: leave it out.")
    known = [name for name in _variables(template) if name not in _BUILT_IN]
    for name in fields:
        if name not in known:
            near = nearest(name, known)
            hint = f": did you mean {near[0]}?" if near else f"; it reads {', '.join(known) or 'none'}."
            raise InputError(f"The chat template of the model has no field {name}{hint}")
    return dict(fields)


def _variables(template: str) -> list[str]:
    """Names that a template reads and does not set itself."""
    from jinja2 import TemplateError, meta
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import SandboxedEnvironment

    try:
        parsed = SandboxedEnvironment(extensions=[loopcontrols]).parse(template)
    except TemplateError:
        return []
    return sorted(meta.find_undeclared_variables(parsed))


_THINKING = ("<think>", "<thinking>", "<thought>", "<|channel>thought", "\u25c1think\u25b7")
_THOUGHT = ("</think>", "</thinking>", "</thought>", "<channel|>", "\u25c1/think\u25b7")


def thinks(processor: Any, chat: Mapping[str, Any], is_multimodal: bool) -> bool:
    """Whether a model writes its thoughts before its answer, as far as its chat template shows.

    The template knows a tag of thoughts, and the prompt does not end with thoughts that are over, as it does where
    thinking is switched off.
    """
    template = getattr(processor, "chat_template", None)
    if not isinstance(template, str) or not any(tag in template for tag in _THINKING + _THOUGHT):
        return False
    content: Any = [{"type": "text", "text": "?"}] if is_multimodal else "?"
    prompt = templated(processor, [{"role": "user", "content": content}], chat)
    return not prompt.rstrip().endswith(_THOUGHT)
