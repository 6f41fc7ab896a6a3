"""Methods that change what a model attends to while it answers; each is a `with` block. Importing changes nothing."""

import importlib
import pkgutil

from sightline.methods.adaptvis import AdaptVis
from sightline.methods.controls import MaskRandom, MaskSinks, RandomVAR
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.fastv import FastV
from sightline.methods.pai import PAI
from sightline.methods.random_tokens import RandomFasterVLM, RandomFastV
from sightline.methods.vaf import VAF
from sightline.methods.var import VAR
from sightline.methods.vcd import VCD

__all__ = [
    "PAI",
    "VAF",
    "VAR",
    "VCD",
    "AdaptVis",
    "FastV",
    "FasterVLM",
    "MaskRandom",
    "MaskSinks",
    "RandomFastV",
    "RandomFasterVLM",
    "RandomVAR",
]

for _module in pkgutil.iter_modules(__path__):  # a method in a new file here is known without being named above
    importlib.import_module(f"{__name__}.{_module.name}")
