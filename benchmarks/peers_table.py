"""Writes the table of benchmarks/results/peers.json into docs/benchmarks.md, for `peers.py`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- peers -->", "<!-- end of peers -->"

TITLES = {
    "measuring": "attention of the answer's rows on text and image",
    "knockout": "one token hidden from the last row in every layer",
    "map": "the same for every token and layer: the complete causal map",
    "vcd": "VCD",
    "pai": "PAI",
}
NAMES = {
    "sightline": "Sightline",
    "eager": "eager, `output_attentions=True`",
    "hook": "forward hooks",
    "nnsight": "nnsight",
    "transformer-lens": "TransformerLens",
    "mitigv": "MitigV",
}
_READS, _DECODES = "reads, and changes nothing", "methods of decoding alone"
_ONE_PASS = "has no such method: the second pass, its cache and the contrast would be one's own to write"
CANNOT = {
    ("measuring", "mitigv"): _DECODES,
    ("knockout", "eager"): _READS,
    ("knockout", "mitigv"): _DECODES,
    ("map", "eager"): _READS,
    ("map", "mitigv"): _DECODES,
    **{(task, "eager"): _READS for task in ("vcd", "pai")},
    **{(task, peer): _ONE_PASS for task in ("vcd", "pai") for peer in ("hook", "nnsight", "transformer-lens")},
}
"""Why a peer has no figure."""


def write_page(document: Mapping[str, Any], page: Path = PAGE) -> None:
    """Put the table between its marks."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n{section(document)}\n{END}{tail}", encoding="utf-8")


def section(document: Mapping[str, Any]) -> str:
    """The table, and in words where and how it was made and how far the figures agree."""
    return f"{table(document)}\n\n{_circumstances(document)}"


def _circumstances(document: Mapping[str, Any]) -> str:
    cells = [cell for by_length in document["cells"].values() for cell in by_length.values()]
    loads = sorted(load for cell in cells for load in cell["loads"])
    rounds = sorted({len(cell["loads"]) for cell in cells})
    layers = sorted(
        {
            (int(length), cell["settings"]["layers"])
            for by_length in document["cells"].values()
            for length, cell in by_length.items()
        }
    )
    peers = [peer for cell in cells for peer in cell["peers"].values()]
    far = max((peer["largest_difference"] for peer in peers if "largest_difference" in peer), default=0.0)
    alike = min((peer["tokens_alike"] for peer in peers if "tokens_alike" in peer), default=1.0)
    one, last = cells[0], max(cell["date"] for cell in cells)
    versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items() if version)
    depth = ", ".join(f"{count} at {length:,} positions" for length, count in layers)
    often = " or ".join(map(str, rounds))
    return (
        f"{one['machine']}, one thread, load {loads[0]:.0f} to {loads[-1]:.0f}, {last}; PyTorch {one['torch']}, "
        f"Transformers {one['transformers']}, {versions}.\n"
        f"Float32; decoder layers: {depth}; answers of {one['settings']['new_tokens']} tokens; rounds: {often}. "
        f"Where a peer reads or cuts, no figure\nis further from Sightline's than {far:.0e}; "
        f"of the tokens under VCD and PAI {alike:.0%} are the same."
    )


def table(document: Mapping[str, Any]) -> str:
    """A row a task and peer; by length the multiple of the plain run's processor time, and the memory above its."""
    cells = document["cells"]
    lengths = sorted({int(length) for by_length in cells.values() for length in by_length})
    head = "".join(f" {length:,}: time | memory |" for length in lengths)
    lines = [f"| | |{head}", "|---|---|" + "---|---|" * len(lengths)]
    for task, title in TITLES.items():
        if task not in cells:
            continue
        lines.append(f"| **{title}** | plain |" + "".join(_plain(cells[task].get(str(each))) for each in lengths))
        for peer, name in NAMES.items():
            if (task, peer) in CANNOT:
                lines.append(f"| | {name} | {CANNOT[task, peer]} |" + " |" * (2 * len(lengths) - 1))
            else:
                figures = "".join(_figures(cells[task].get(str(each)), peer) for each in lengths)
                lines.append(f"| | {name} |{figures}")
    return "\n".join(lines)


def _plain(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return " not run | |"
    peer = cell["peers"]["plain"]
    return f" {statistics.median(peer['processor_seconds']):.1f} s | {_mib(min(peer['peak_bytes']))} |"


def _figures(cell: Mapping[str, Any] | None, name: str) -> str:
    if cell is None:
        return " not run | |"
    if name not in cell["peers"]:
        return f" {cell['failed'].get(name, 'not run')} | |"
    peer, plain = cell["peers"][name], cell["peers"]["plain"]
    above = min(peer["peak_bytes"]) - min(plain["peak_bytes"])
    sign = "" if abs(above) < 2**19 else "+" if above > 0 else "-"
    is_scaled = bool(cell["edges"]) and name not in ("plain", "sightline")
    return f" {_spread(peer['factors'])}{' scaled' if is_scaled else ''} | {sign}{_mib(abs(above))} |"


def _spread(values: list[float]) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    digits = 0 if middle >= 100 else 2
    if len(values) == 1:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _mib(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"
