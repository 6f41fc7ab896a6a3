"""Settings read from YAML files, each fault one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sightline.errors import InputError

LIMIT = 2**24
"""Bytes of a settings file; more is data in the wrong place."""


def read_yaml(path: Path, form: str = "`field: value` lines") -> dict[str, Any]:
    """The mapping that a YAML file holds; an empty file is an empty one. form: what the file should hold, in words.

    Raises:
        InputError: when the file is missing, too large, no UTF-8 text, no YAML, or holds something else.
    """
    try:
        if path.stat().st_size > LIMIT:
            raise InputError(f"The settings {path} are larger than {LIMIT // 2**20} MiB: give {form}.")
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"The settings {path} are not UTF-8 text: give a YAML file.") from error
    except OSError as error:
        raise InputError(f"The settings {path} cannot be read ({error.strerror or error}).") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"The settings {path} are no valid YAML{place}: give {form}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"The settings {path} are no YAML of {form}.")
    return content
