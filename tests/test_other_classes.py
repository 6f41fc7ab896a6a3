"""Every class that AutoModelForImageTextToText lists: one of the families, read, or refused in one sentence.

Where it is no family of the tests, its own default configuration is made small, and its structure and its attention
over words alone are looked at: what is true of its pictures, a builder of inputs would have to tell.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.attention.checks import check_model
from sightline.errors import ModelError
from sightline.models.anatomy import find_anatomy
from sightline.models.layout import layout_of
from support.families.core import seeded
from support.families.shrunk import WANTED, small_config

PAGE = Path(__file__).parent.parent / "docs" / "families.md"
LARGEST = 60_000_000
"""Weights; what stays larger when it is made small is looked at on no device, and not run."""


def listed() -> dict[str, str]:
    """The classes by their model type, in this release."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as names

    return dict(names)


def rows() -> list[list[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [[cell.strip("* ") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


FAMILIES = {row[1] for row in rows() if len(row) > 3}
OTHERS = {kind: name for kind, name in listed().items() if name not in FAMILIES}


def reading(kind: str) -> str:
    """What comes of a class: "read", "read: ..." with what was not tried, "refused: ..." or "not built: ..."."""
    from transformers import AutoModelForImageTextToText

    wanted = WANTED.get(kind, {})
    try:
        config = small_config(kind, wanted.get("vision"), wanted.get("text"), **wanted.get("more", {}))
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
    except ImportError as error:
        library = re.search(r"requires the (\w+) library", str(error))
        return f"not built: needs {library[1] if library else 'a library'}"
    except Exception:  # each class has demands of its own on its configuration
        return "not built: its default configuration makes no model"
    try:
        anatomy = find_anatomy(model)
    except ModelError as error:
        return f"refused: {error}"
    if sum(weight.numel() for weight in model.parameters()) > LARGEST:
        return "read: its structure"
    whole = seeded(lambda: AutoModelForImageTextToText.from_config(config))
    anatomy = find_anatomy(whole)
    ids = torch.randint(10, 100, (2, 12), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            faults = check_model(anatomy, inputs, layout_of(anatomy, inputs))
    except (ValueError, TypeError, RuntimeError):
        return "read: its structure; words alone it does not run on"
    faults = [fault for fault in faults if fault != "No position is image, video or audio."]
    return "read" if not faults else f"read wrongly: {' '.join(faults)}"


@pytest.mark.parametrize("kind", OTHERS)
def test_a_class_is_read_or_refused_as_the_page_says(kind: str) -> None:
    said = {row[0]: row[2] for row in rows() if len(row) == 3}
    found = reading(kind)
    assert not found.startswith("read wrongly"), found
    assert len(found) < 500
    if kind in said:
        assert short(found) == said[kind]
    else:
        import transformers

        assert f"transformers {transformers.__version__}" not in PAGE.read_text(encoding="utf-8"), "it has no row"


def short(found: str) -> str:
    """What stands in a row: of a refusal the reason alone."""
    for words, reason in (
        ("encoder-decoder", "refused: an encoder-decoder"),
        ("by cross-attention", "refused: reads its image by cross-attention"),
        ("no text layers whose attention", "refused: its attention does not go through the interface"),
        ("does not generate text", "refused: generates no text"),
    ):
        if found.startswith("refused") and words in found:
            return reason
    return found


def table() -> str:
    """The rows of the page."""
    lines = ["| type | class in Transformers | here |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {kind} | {name} | {short(reading(kind))} |" for kind, name in OTHERS.items())])


def test_a_refusal_says_why() -> None:
    refusals: dict[str, Any] = {kind: reading(kind) for kind in ("mllama", "florence2") if kind in OTHERS}
    assert all(short(found) != found and found.endswith(".") for found in refusals.values())
