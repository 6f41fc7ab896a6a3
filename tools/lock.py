"""Writes constraints.txt: the version of every package that the development environment holds, from a clean resolve.

python tools/lock.py

pip decides, from the ranges in pyproject.toml and on nothing that is installed; only names and versions are kept.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "constraints.txt"

HEADER = """\
# What `make demo`, `make test` and `.ci/run` install: the versions that the tests passed with. `make lock` writes it.
# It holds from Python {python} on; an older one takes what the ranges in pyproject.toml allow.
"""


def main() -> None:
    """Resolves the development environment anew and writes the lock."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([*command, "--editable", f"{ROOT}[dev]"], check=True)
        packages = versions(json.loads(report.read_text(encoding="utf-8")))
    python = ".".join(platform.python_version_tuple()[:2])
    lines = [f'{name}=={version} ; python_version >= "{python}"\n' for name, version in sorted(packages.items())]
    LOCK.write_text(HEADER.format(python=python) + "".join(lines), encoding="utf-8")
    print(f"{LOCK.name}: {len(lines)} packages")


def versions(report: dict[str, list[dict[str, dict[str, str]]]]) -> dict[str, str]:
    """Name and version of each package of pip's report, less Sightline itself.

    A local tag as in 2.13.0+cpu is left out: it names one build, and other machines take another of the same version.
    """
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    named = {re.sub(r"[-_.]+", "-", name).lower(): version.split("+")[0] for name, version in found.items()}
    return {name: version for name, version in named.items() if name != "sightline-vlm"}


if __name__ == "__main__":
    main()
