"""The attention core: exact weights of a few rows, masses of all rows, edits; lent to a model for one `with`."""

from sightline.attention.call import AttentionCall
from sightline.attention.edits import Edit, EditedCall
from sightline.attention.group_mass import group_mass
from sightline.attention.ownership import bypassed, is_bypassed
from sightline.attention.passes import ForwardPass
from sightline.attention.roles import Editor, LayerPruner, PromptPruner, Reader
from sightline.attention.session import attach
from sightline.attention.weights import Block, row_mass, row_weights
from sightline.memory import block_bytes, limit_block_bytes

__all__ = [
    "AttentionCall",
    "Block",
    "Edit",
    "EditedCall",
    "Editor",
    "ForwardPass",
    "LayerPruner",
    "PromptPruner",
    "Reader",
    "attach",
    "block_bytes",
    "bypassed",
    "group_mass",
    "is_bypassed",
    "limit_block_bytes",
    "row_mass",
    "row_weights",
]
