"""Sightline: does a vision-language model look at the image, or answer from language?

    import sightline as sl

    vlm = sl.load("tiny-llava")
    inputs = vlm.encode(sl.Sample(image="cat.jpg", prompt="Is there a cat?"))
    with sl.Dominance(queries="generated").on(vlm) as probe:
        text = vlm.generate(inputs, max_new_tokens=20)
    print(probe.result().stages())

Names are imported when first used: `import sightline` costs milliseconds and loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.attention import bypassed
    from sightline.data.json_lines import read_samples
    from sightline.data.sample import Sample
    from sightline.errors import InputError, LayoutError, ModelError, SightlineError
    from sightline.jobs.calibrate import calibrate
    from sightline.jobs.calibration import Calibration
    from sightline.jobs.compare import PairedScores, compare
    from sightline.jobs.evaluate import evaluate
    from sightline.jobs.find_sinks import find_sinks
    from sightline.jobs.impact import impact
    from sightline.jobs.measure import measure
    from sightline.jobs.read_run import read_run
    from sightline.jobs.report import report
    from sightline.jobs.reproduce import reproduce
    from sightline.jobs.score import score
    from sightline.jobs.train import train
    from sightline.knockout.heads import HeadEffects, head_effects
    from sightline.knockout.result import ImpactMap
    from sightline.knockout.study import Study
    from sightline.live.app import app
    from sightline.methods.adaptvis import AdaptVis
    from sightline.methods.adhh import ADHH
    from sightline.methods.avisc import AvisC
    from sightline.methods.base import Method
    from sightline.methods.cdpruner import CDPruner
    from sightline.methods.controls import MaskRandom, MaskSinks, RandomVAR
    from sightline.methods.deco import DeCo
    from sightline.methods.directions import Direction, find_direction
    from sightline.methods.divprune import DivPrune
    from sightline.methods.dola import DoLa
    from sightline.methods.eah import EAH
    from sightline.methods.fastervlm import FasterVLM
    from sightline.methods.fastv import FastV
    from sightline.methods.icd import ICD
    from sightline.methods.m3id import M3ID
    from sightline.methods.memvr import MemVR
    from sightline.methods.only import ONLY
    from sightline.methods.opera import OPERA
    from sightline.methods.pai import PAI
    from sightline.methods.projectaway import ProjectAway
    from sightline.methods.pyramiddrop import PyramidDrop
    from sightline.methods.random_tokens import RandomPrune
    from sightline.methods.registers import Registers
    from sightline.methods.registry import find_method
    from sightline.methods.sid import SID
    from sightline.methods.sparsevlm import SparseVLM
    from sightline.methods.spin import SPIN
    from sightline.methods.steer import VTI, Steer
    from sightline.methods.vaf import VAF
    from sightline.methods.var import VAR
    from sightline.methods.vcd import VCD
    from sightline.methods.visionzip import VisionZip
    from sightline.methods.vista import VISTA
    from sightline.methods.yes_bias import CutOff, YesBias
    from sightline.models.anatomy import Anatomy, find_anatomy
    from sightline.models.layout import Modality, TokenLayout, layout_of
    from sightline.models.vlm import VLM, load, wrap
    from sightline.probes.dominance import Dominance, words
    from sightline.probes.grounding import Grounding
    from sightline.probes.image_lens import ImageLens, image_lens
    from sightline.probes.localization import Localization, localize
    from sightline.probes.register_neurons import RegisterNeurons, find_register_neurons
    from sightline.probes.relevance import Relevance, relevance
    from sightline.probes.sinks import Sinks, read_sinks
    from sightline.results.style import save_figure

    __version__: str

_HOMES = {
    "bypassed": "sightline.attention",
    "Anatomy": "sightline.models.anatomy",
    "find_anatomy": "sightline.models.anatomy",
    "InputError": "sightline.errors",
    "LayoutError": "sightline.errors",
    "ModelError": "sightline.errors",
    "SightlineError": "sightline.errors",
    "Grounding": "sightline.probes.grounding",
    "PairedScores": "sightline.jobs.compare",
    "compare": "sightline.jobs.compare",
    "ImpactMap": "sightline.knockout.result",
    "Study": "sightline.knockout.study",
    "app": "sightline.live.app",
    "read_run": "sightline.jobs.read_run",
    "save_figure": "sightline.results.style",
    "find_method": "sightline.methods.registry",
    "Modality": "sightline.models.layout",
    "TokenLayout": "sightline.models.layout",
    "layout_of": "sightline.models.layout",
    "Dominance": "sightline.probes.dominance",
    "words": "sightline.probes.dominance",
    "Method": "sightline.methods.base",
    "Sample": "sightline.data.sample",
    "read_samples": "sightline.data.json_lines",
    "Sinks": "sightline.probes.sinks",
    "read_sinks": "sightline.probes.sinks",
    "MaskRandom": "sightline.methods.controls",
    "MaskSinks": "sightline.methods.controls",
    "RandomVAR": "sightline.methods.controls",
    "VAR": "sightline.methods.var",
    "image_lens": "sightline.probes.image_lens",
    "ImageLens": "sightline.probes.image_lens",
    "relevance": "sightline.probes.relevance",
    "Relevance": "sightline.probes.relevance",
    "localize": "sightline.probes.localization",
    "find_register_neurons": "sightline.probes.register_neurons",
    "RegisterNeurons": "sightline.probes.register_neurons",
    "Registers": "sightline.methods.registers",
    "Localization": "sightline.probes.localization",
    "head_effects": "sightline.knockout.heads",
    "HeadEffects": "sightline.knockout.heads",
    "OPERA": "sightline.methods.opera",
    "find_direction": "sightline.methods.directions",
    "Direction": "sightline.methods.directions",
    "ProjectAway": "sightline.methods.projectaway",
    "VTI": "sightline.methods.steer",
    "Steer": "sightline.methods.steer",
    "MemVR": "sightline.methods.memvr",
    "ONLY": "sightline.methods.only",
    "SID": "sightline.methods.sid",
    "AvisC": "sightline.methods.avisc",
    "RandomPrune": "sightline.methods.random_tokens",
    "SparseVLM": "sightline.methods.sparsevlm",
    "PyramidDrop": "sightline.methods.pyramiddrop",
    "VisionZip": "sightline.methods.visionzip",
    "CDPruner": "sightline.methods.cdpruner",
    "DivPrune": "sightline.methods.divprune",
    "CutOff": "sightline.methods.yes_bias",
    "YesBias": "sightline.methods.yes_bias",
    "VISTA": "sightline.methods.vista",
    "SPIN": "sightline.methods.spin",
    "M3ID": "sightline.methods.m3id",
    "ICD": "sightline.methods.icd",
    "EAH": "sightline.methods.eah",
    "DoLa": "sightline.methods.dola",
    "DeCo": "sightline.methods.deco",
    "ADHH": "sightline.methods.adhh",
    "PAI": "sightline.methods.pai",
    "VCD": "sightline.methods.vcd",
    "VAF": "sightline.methods.vaf",
    "AdaptVis": "sightline.methods.adaptvis",
    "FastV": "sightline.methods.fastv",
    "FasterVLM": "sightline.methods.fastervlm",
    "VLM": "sightline.models.vlm",
    "load": "sightline.models.vlm",
    "wrap": "sightline.models.vlm",
    "calibrate": "sightline.jobs.calibrate",
    "Calibration": "sightline.jobs.calibration",
    "impact": "sightline.jobs.impact",
    "evaluate": "sightline.jobs.evaluate",
    "find_sinks": "sightline.jobs.find_sinks",
    "measure": "sightline.jobs.measure",
    "reproduce": "sightline.jobs.reproduce",
    "score": "sightline.jobs.score",
    "train": "sightline.jobs.train",
    "report": "sightline.jobs.report",
}
"""Where each exported name is defined."""

__all__ = [
    "ADHH",
    "EAH",
    "ICD",
    "M3ID",
    "ONLY",
    "OPERA",
    "PAI",
    "SID",
    "SPIN",
    "VAF",
    "VAR",
    "VCD",
    "VISTA",
    "VLM",
    "VTI",
    "AdaptVis",
    "Anatomy",
    "AvisC",
    "CDPruner",
    "Calibration",
    "CutOff",
    "DeCo",
    "Direction",
    "DivPrune",
    "DoLa",
    "Dominance",
    "FastV",
    "FasterVLM",
    "Grounding",
    "HeadEffects",
    "ImageLens",
    "ImpactMap",
    "InputError",
    "LayoutError",
    "Localization",
    "MaskRandom",
    "MaskSinks",
    "MemVR",
    "Method",
    "Modality",
    "ModelError",
    "PairedScores",
    "ProjectAway",
    "PyramidDrop",
    "RandomPrune",
    "RandomVAR",
    "RegisterNeurons",
    "Registers",
    "Relevance",
    "Sample",
    "SightlineError",
    "Sinks",
    "SparseVLM",
    "Steer",
    "Study",
    "TokenLayout",
    "VisionZip",
    "YesBias",
    "__version__",
    "app",
    "bypassed",
    "calibrate",
    "compare",
    "evaluate",
    "find_anatomy",
    "find_direction",
    "find_method",
    "find_register_neurons",
    "find_sinks",
    "head_effects",
    "image_lens",
    "impact",
    "layout_of",
    "load",
    "localize",
    "measure",
    "read_run",
    "read_samples",
    "read_sinks",
    "relevance",
    "report",
    "reproduce",
    "save_figure",
    "score",
    "train",
    "words",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sightline-vlm")
    if name not in _HOMES:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
