"""Runs tests on other releases of Transformers, each in an environment of its own beside .venv.

python tools/releases.py [--short] [--write] [RELEASE ...]     # by default the oldest and the newest allowed

An environment, `.venv-5.17.0` say, holds that release and the hub client of its time; all else is that of .venv.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "releases.md"
OF_THE_RELEASE = ("transformers", "huggingface-hub")
"""Packages whose version the release decides and not the lock."""

TESTS = ["attention", "dominance", "methods", "knockout", "grounding", "releases"]
SHORT = ["attention/test_laws.py", "dominance/test_dominance.py", "methods/test_var.py", "knockout/test_causal.py"]
SHORT += ["grounding/test_scores.py", "releases"]

HEAD = ["Transformers", "hub client", "PyTorch", "Python", "tests", "passed", "failed", "day"]


def main() -> int:
    """0 where every test passed on every release, else 1."""
    parser = argparse.ArgumentParser(description="Run tests on other releases of Transformers.")
    parser.add_argument("releases", nargs="*", metavar="RELEASE", help="as 5.17.0; by default oldest and newest")
    parser.add_argument("--short", action="store_true", help="a selection; a release that .venv holds is left out")
    parser.add_argument("--write", action="store_true", help="enter the outcome in docs/releases.md")
    options = parser.parse_args()
    here = version_in(Path(sys.executable), "transformers")
    rows = {}
    for wanted in options.releases or bounds():
        python = environment(wanted)
        release = version_in(python, "transformers")
        if options.short and release == here:
            print(f"Transformers {release}: .venv holds it, and `make test` runs the whole suite on it.")
            continue
        print(f"Transformers {release}, hub client {version_in(python, 'huggingface-hub')}:", flush=True)
        passed, failed = run(python, SHORT if options.short else TESTS)
        rows[release] = row(python, "selection" if options.short else "all", passed, failed)
    if options.write:
        write(rows)
    return int(any(cells[HEAD.index("failed")] != "0" for cells in rows.values()))


def bounds() -> list[str]:
    """The oldest release that pyproject allows, and the whole range, of which pip takes the newest."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'"transformers>=([\d.]+),<([\d.]+)"', text)
    if found is None:
        raise SystemExit("pyproject.toml has no range of transformers such as transformers>=5.17,<5.25.")
    return [f"{found[1]}.0", f">={found[1]},<{found[2]}"]


def environment(wanted: str) -> Path:
    """The interpreter of an environment with that release, which is made where it does not stand yet."""
    folder = ROOT / f".venv-{wanted}" if wanted[0].isdigit() else ROOT / ".venv-newest"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        beside = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages" / "beside.pth"
        beside.write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n", encoding="utf-8")
    locked = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as rest:
        rest.writelines(line for line in locked if line.split("==")[0] not in OF_THE_RELEASE)
        rest.flush()
        spec = f"transformers{wanted if wanted[0] == '>' else f'=={wanted}'}"
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", "--upgrade"]
        subprocess.run([*pip, "--disable-pip-version-check", "--constraint", rest.name, spec], check=True)
    return python


def run(python: Path, tests: list[str]) -> tuple[int, int]:
    """How many of the tests passed and failed there."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        pytest = [str(python), "-m", "pytest", "-n", "2", "--dist", "worksteal", "-p", "no:cacheprovider"]
        command = [*pytest, f"--junitxml={report}", *(f"tests/{name}" for name in tests)]
        subprocess.run(command, cwd=ROOT, check=False, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
        if not report.exists():
            return 0, 1
        suite = next(ElementTree.parse(report).iter("testsuite"))
    ran, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return ran - skipped - failed, failed


def version_in(python: Path, name: str) -> str:
    """The version of a package in another environment."""
    code = f"import importlib.metadata as m, json; print(json.dumps(m.version({name!r})))"
    shown = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout
    return str(json.loads(shown))


def row(python: Path, tests: str, passed: int, failed: int) -> list[str]:
    """A row of the table, as HEAD names its columns."""
    versions = [version_in(python, name).split("+")[0] for name in (*OF_THE_RELEASE, "torch")]
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return [*versions, platform.python_version(), tests, str(passed), str(failed), today]


def write(rows: dict[str, list[str]]) -> None:
    """Enters the rows in the table of the page, newest release first; other releases keep theirs."""
    text = PAGE.read_text(encoding="utf-8")
    start, end = text.index("| Transformers"), text.index("\n\n", text.index("| Transformers"))
    kept = [[cell.strip() for cell in line.strip("|").split("|")] for line in text[start:end].splitlines()[2:]]
    every = {cells[0]: cells for cells in kept} | rows
    order = sorted(every, key=lambda release: [int(part) for part in release.split(".")], reverse=True)
    table = [HEAD, ["---"] * len(HEAD), *(every[release] for release in order)]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    PAGE.write_text(text[:start] + lines + text[end:], encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
