"""A run's progress and figures in an experiment tracker: trackio, W&B, MLflow, TensorBoard, or a function of one's own.

    sl.evaluate("tiny-llava", "shapes-pope", track="wandb:my-project")
    sl.measure("tiny-llava", "shapes", track=lambda figures, step: print(step, figures))

A tracker is given numbers by name, and how many entries are done. Each library is imported when it is named.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from sightline.errors import InputError
from sightline.runs.progress import LOGGER, OnProgress, Progress

Track: TypeAlias = "Callable[[Mapping[str, float], int], Any]"
"""Called with figures by name and the number of entries that are done, which never falls."""

PROJECT = "sightline"

STEPS = 100
"""A part of a run is tracked so many times at most."""


class Tracking:
    """One run in one tracker."""

    def __init__(self, track: Track | None, on_progress: OnProgress | None = None) -> None:
        self._track, self._next = track, on_progress
        self._done: dict[str, int] = {}
        self._marks: dict[str, int] = {}

    @property
    def on_progress(self) -> OnProgress | None:
        """What a job calls as it goes on; the caller's own function is called too."""
        return self._next if self._track is None else self._advance

    def figures(self, document: Callable[[], Mapping[str, Any]]) -> None:
        """The figures of a job's document, at its end; they are logged as well."""
        is_logged = LOGGER.isEnabledFor(logging.INFO)
        if self._track is None and not is_logged:
            return
        found = figures_of(document())
        if is_logged:
            LOGGER.info("Figures: %s", ", ".join(f"{name} {value:.6g}" for name, value in found.items()))
        if self._track is not None:
            self._track(found, sum(self._done.values()))

    def _advance(self, at: Progress) -> None:
        if self._next is not None:
            self._next(at)
        self._done[at.title] = at.done
        mark = at.done * STEPS // max(at.total, 1)
        if self._track is not None and mark != self._marks.get(at.title):
            self._marks[at.title] = mark
            self._track({f"progress/{at.title}": at.done / max(at.total, 1)}, sum(self._done.values()))


@contextmanager
def tracking(
    given: str | Track | None, name: str, settings: Mapping[str, Any], on_progress: OnProgress | None = None
) -> Iterator[Tracking]:
    """A run's tracking; given: `NAME`, `NAME:PROJECT` (of TensorBoard a folder), or a function; None: none.

    name, settings: of the run, as the tracker shows them. Raises InputError for an unknown tracker, and for one whose
    library is not installed.
    """
    if given is None or callable(given):
        yield Tracking(given, on_progress)
        return
    kind, _, project = given.partition(":")
    if kind not in TRACKERS:
        raise InputError(f"There is no tracker {kind[:40]!r}; there are {', '.join(TRACKERS)}, or give a function.")
    module, package, opened = TRACKERS[kind]
    try:
        library = importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"The tracker {kind} needs its library: pip install {package}.") from error
    shown = {key: value if isinstance(value, str | int | float) else str(value) for key, value in settings.items()}
    with opened(library, project or PROJECT, name, shown) as track:
        yield Tracking(track, on_progress)


def figures_of(document: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an `eval` or `measure` document by name; an interval as `..._low` and `..._high`.

    Of `eval` BENCH/METHOD/FIGURE and BENCH/METHOD/vs first/..., of `measure` STAGE/FIGURE; with several models each
    name begins with the model's.
    """
    documents = document.get("evaluations") or document.get("models") or [document]
    if isinstance(document.get("queries"), Mapping):
        documents = [{**each, "model": name} for name, each in document["queries"].items()]
    models = {str(each.get("model")) for each in documents}
    found: dict[str, float] = {}
    for each in documents:
        before = f"{each.get('model')}/" if len(models) > 1 else ""
        for label, figures in (each.get("methods") or {}).items():
            found |= _numbers(figures, f"{before}{each['bench']}/{label}/")
        for pair in each.get("paired") or ():
            found |= _numbers(pair, f"{before}{each['bench']}/{pair['b']}/vs {pair['a']}/")
        for stage, figures in (each.get("stages") or {}).items():
            found |= _numbers(figures, f"{before}{stage}/")
    return found


def _numbers(figures: Mapping[str, Any], before: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, list) and len(value) == 2 and "ci95" in name:
            ends = zip(("low", "high"), value, strict=True)
            found |= {f"{before}{name.replace('ci95', end)}": float(number) for end, number in ends}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{before}{name}"] = float(value)
    return found


# Libraries -----------------------------------------------------------------------------------------------------------


@contextmanager
def _as_wandb(library: Any, project: str, name: str, settings: Mapping[str, Any]) -> Iterator[Track]:
    """W&B; and trackio, which has its functions."""
    run = library.init(project=project, name=name, config=dict(settings))
    try:
        yield lambda figures, step: (run or library).log(dict(figures), step=step)
    finally:
        (run if hasattr(run, "finish") else library).finish()


@contextmanager
def _as_mlflow(library: Any, project: str, name: str, settings: Mapping[str, Any]) -> Iterator[Track]:
    library.set_experiment(project)
    with library.start_run(run_name=name):
        library.log_params({_plain(key): value for key, value in settings.items()})

        def track(figures: Mapping[str, float], step: int) -> None:
            library.log_metrics({_plain(key): value for key, value in figures.items()}, step=step)

        yield track


@contextmanager
def _as_tensorboard(library: Any, project: str, name: str, settings: Mapping[str, Any]) -> Iterator[Track]:
    with library.SummaryWriter(log_dir=f"{project}/{_plain(name)}".replace(" ", "_")) as writer:
        writer.add_text("settings", "\n".join(f"    {key} = {value}" for key, value in settings.items()))

        def track(figures: Mapping[str, float], step: int) -> None:
            for key, value in figures.items():
                writer.add_scalar(key, value, global_step=step)

        yield track


def _plain(name: str) -> str:
    """Without the signs that MLflow and file systems refuse."""
    return re.sub(r"[^\w\-. /]", "_", name)


TRACKERS: Mapping[str, tuple[str, str, Callable[..., Any]]] = {
    "trackio": ("trackio", "trackio", _as_wandb),
    "wandb": ("wandb", "wandb", _as_wandb),
    "mlflow": ("mlflow", "mlflow", _as_mlflow),
    "tensorboard": ("torch.utils.tensorboard", "tensorboard", _as_tensorboard),
}
"""By name: the module, the package to install, and what opens a run."""
