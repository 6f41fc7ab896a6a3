"""Words and numbers as they are shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sightline.text import printable


@given(st.text())
def test_what_is_shown_never_steers_a_terminal(text: str) -> None:
    shown = printable(text)
    assert all(sign.isprintable() or sign in "\n\t" for sign in shown)
    assert printable(shown) == shown


def test_escape_codes_are_shown_as_they_are_written() -> None:
    assert printable("\x1b[2J\x07é\ud800") == r"\x1b[2J\x07é\ud800"
