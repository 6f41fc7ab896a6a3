"""The attention core: exact weights of a few rows, masses of all rows, edits; lent to a model for one `with`."""

from sightline.attention.call import AttentionCall
from sightline.attention.edits import Edit, EditedCall
from sightline.attention.groups import group_mass
from sightline.attention.interface import Dropper, Editor, Reader, Shortener, is_suspended, lend, suspended
from sightline.attention.rows import Block, block_bytes, limit_block_bytes, row_mass, row_weights
from sightline.attention.steps import Step

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
