"""Which position of a prompt is text, image, video, audio or padding, and the rows and columns of image positions."""

from sightline.models.layout.by_hand import GivenLayout, read_layout
from sightline.models.layout.patches import Modality, PatchGrid
from sightline.models.layout.token_layout import TokenLayout, layout_of

__all__ = ["GivenLayout", "Modality", "PatchGrid", "TokenLayout", "layout_of", "read_layout"]
