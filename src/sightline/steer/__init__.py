"""Methods that change what a model attends to while it answers; each is a `with` block. Importing changes nothing."""

from sightline.steer.controls import MaskRandom, MaskSinks, RandomVAR
from sightline.steer.var import VAR

__all__ = ["VAR", "MaskRandom", "MaskSinks", "RandomVAR"]
