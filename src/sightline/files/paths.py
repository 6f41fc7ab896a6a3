"""A file that is to be read: what is wrong with its name or place, in one sentence."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sightline.errors import InputError
from sightline.text import shortened


def require_file(path: str | Path, what: str, wanted: str = "give a file", *, may_be_empty: bool = False) -> Path:
    """The path of a file that can be opened and, unless it may be, is not empty.

    Args:
        what: names it at the beginning of the sentence, as "image".
        wanted: what a folder's sentence ends with.

    Raises:
        InputError: when it is missing, a folder, empty, closed to us, or no name that a file can have.
    """
    name = shortened(str(path))
    if "\0" in str(path):
        raise InputError(
            f"The {what} {shortened(repr(str(path)))} holds a NUL byte, which no file name has: give a file's name."
        )
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"The {what} {name} does not exist.") from None
    except PermissionError as error:
        raise InputError(f"The {what} {name} is in a folder that may not be read (permission denied).") from error
    except (OSError, ValueError) as error:  # too long a name, a circle of links, letters that no file system takes
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"The {what} {name} cannot be read ({reason}).") from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"The {what} {name} is a folder: {wanted}.")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"The {what} {name} is no file but a device or a pipe: {wanted}.")
    if not os.access(path, os.R_OK):
        raise InputError(f"The {what} {name} may not be read (permission denied).")
    if found.st_size == 0 and not may_be_empty:
        raise InputError(f"The {what} {name} is empty (zero bytes).")
    return Path(path)
