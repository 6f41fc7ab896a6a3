"""Jobs on bundled models, each loaded once for all tests, in an empty folder."""

from support.runs import data, deep, idle, loaded_once, picture, tiny

__all__ = ["data", "deep", "idle", "loaded_once", "picture", "tiny"]
