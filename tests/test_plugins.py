"""Names are known before anything heavy is imported, and each table says where a name's module is."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

import sightline.benchmarks
import sightline.methods
from sightline.benchmarks.base import BENCHMARKS
from sightline.errors import InputError
from sightline.methods.base import METHODS, Method, parse_spec, register
from sightline.plugins import Registry


def run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


def test_names_are_known_and_wrong_ones_refused_without_torch() -> None:
    code = """
import sys
import sightline
from sightline.benchmarks.base import BENCHMARKS
from sightline.cli.main import cli
from sightline.methods.base import METHODS, parse_spec
assert {"vcd", "pai", "var", "grounding", "repeat"} <= set(METHODS)
assert {"pope", "chair", "shapes-pope"} <= set(BENCHMARKS)
for words in (
    ["eval", "tiny-llava", "--bench", "shapes-pope", "--method", "vdc"],
    ["eval", "tiny-llava", "--bench", "pop", "--method", "vcd"],
    ["generate", "tiny-llava", "--prompt", "x", "--method", "vdc"],
    ["measure", "tiny-llava", "--data", "shapes", "--method", "vdc"],
):
    try:
        cli.main(words)
    except SystemExit as end:
        assert end.code == 2, end.code
assert "torch" not in sys.modules
"""
    ended = run(code)
    assert ended.returncode == 0, ended.stderr
    sentences = ended.stderr.splitlines()
    assert [sentence.split("; ")[0] for sentence in sentences] == [
        "Error: There is no method named 'vdc' (did you mean vcd?)",
        "Error: There is no benchmark named 'pop' (did you mean pope?)",
        "Error: There is no method named 'vdc' (did you mean vcd?)",
        "Error: There is no method named 'vdc' (did you mean vcd?)",
    ]


@pytest.mark.parametrize(("package", "registry"), [(sightline.methods, METHODS), (sightline.benchmarks, BENCHMARKS)])
def test_every_class_that_registers_itself_is_in_the_table(package: ModuleType, registry: Registry[Any]) -> None:
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    homes = {name: home for name, home in registry.homes.items() if registry[name].__module__ == home}
    assert homes == registry.homes
    ours = {name for name, kind in registry._found.items() if kind.__module__.startswith(package.__name__ + ".")}
    assert ours <= set(registry.homes)


def test_a_name_that_is_taken_is_refused() -> None:
    @dataclass(frozen=True)
    class Other(Method):
        """Another."""

        name: ClassVar[str] = "vcd"

    with pytest.raises(InputError, match=r"two methods named 'vcd', in sightline\.methods\.vcd.* rename one"):
        register(Other)
    assert type(parse_spec("vcd")).__name__ == "VCD"


def test_every_method_has_a_page_that_names_its_fields() -> None:
    pages = Path(__file__).parent.parent / "docs"
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages.rglob("*.md"))
    for name in METHODS.homes:
        assert f"`{name}" in text or f"--method {name}" in text or f"# {name}" in text, name
    for page in (pages / "methods").glob("*.md"):
        kinds = [METHODS[page.stem]] if page.stem in METHODS.homes else []
        names = [field.name for kind in kinds for field in fields(kind)]
        words = page.read_text(encoding="utf-8")
        assert not [name for name in names if name not in words], page.name


def test_what_is_listed_or_refused_by_name_needs_no_torch() -> None:
    """As separate words: each is a command that ends before a model could be loaded."""
    script = """
import sys
from sightline.cli.main import cli
for words in (
    ["list", "methods"], ["list", "benches"], ["list", "models"], ["eval", "--help"], ["train", "--help"],
    ["list", "reproductions"], ["impact", "--help"], ["reproduce", "--help"], ["reproduce", "nosuch"],
    ["impact", "tiny-llava", "--prompt", "a", "--estimate", "gradient", "--mode", "local"],
    ["measure", "tiny-lava", "--data", "shapes"], ["measure", "./nowhere", "--data", "shapes"],
    ["eval", "tiny-llava", "--bench", "nosuch"], ["generate", "tiny-llava", "--prompt", "a", "--method", "nosuch"],
):
    try:
        cli.main(words)
    except SystemExit as ended:
        assert bool(ended.code) == (words[0] != "list" and words[-1] != "--help"), (words, ended.code)
    assert "torch" not in sys.modules, words
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_list_of_methods_is_what_the_methods_say() -> None:
    from sightline.files.json import read_object
    from sightline.methods.listing import FILE, entry_of, listed_methods

    kept = read_object(FILE)
    assert kept is not None
    by_name = {entry["name"]: entry for entry in listed_methods()}
    for name in ("vcd", "var", "fastv"):
        assert by_name[name] == entry_of(name)
