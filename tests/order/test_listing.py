"""What `list methods` keeps beside the methods is of the methods as they stand."""

from __future__ import annotations

from sightline.files.json import read_object
from sightline.methods.listing import FILE, entry_of, listed_methods, source_digest


def test_the_kept_list_of_methods_is_of_their_source() -> None:
    kept = read_object(FILE)
    assert kept is not None
    assert kept["digest"] == source_digest(), "python -m sightline.methods.listing writes it anew"


def test_the_kept_list_says_what_the_classes_say() -> None:
    entries = {entry["name"]: entry for entry in listed_methods()}
    assert all(entries[name] == entry_of(name) for name in ("vcd", "var", "opera"))
