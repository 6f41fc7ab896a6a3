"""Published tables on tiny models, each loaded once for all tests."""

from support.runs import loaded_once, tiny

__all__ = ["loaded_once", "tiny"]
