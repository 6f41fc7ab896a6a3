"""The attention core: exact weights of a few rows, masses of all rows, edits; lent to a model for one `with`."""

from sightline.attention.call import AttentionCall
from sightline.attention.edits import Edit, EditedCall
from sightline.attention.group_mass import group_mass
from sightline.attention.hooks import Dropper, Editor, Reader, Shortener, is_suspended, lend, suspended
from sightline.attention.passes import Step
from sightline.attention.weights import Block, block_bytes, limit_block_bytes, row_mass, row_weights

__all__ = [
    "AttentionCall",
    "Block",
    "Dropper",
    "Edit",
    "EditedCall",
    "Editor",
    "Reader",
    "Shortener",
    "Step",
    "block_bytes",
    "group_mass",
    "is_suspended",
    "lend",
    "limit_block_bytes",
    "row_mass",
    "row_weights",
    "suspended",
]
