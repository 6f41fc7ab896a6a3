"""Which position of a prompt is text, image, video, audio or padding, and how image positions lie in rows and columns.

A layout is read from what the model's own forward is given (token ids, masks, grids, image sizes) and from the
configuration, so that it is right for any prompt, batch, padding and number of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.errors import LayoutError
from sightline.models.layout.grids import find_grids
from sightline.models.layout.patches import WHOLE, Modality, PatchGrid, Tiles

if TYPE_CHECKING:
    from sightline.models.anatomy import Anatomy

__all__ = ["Modality", "PatchGrid", "TokenLayout", "layout_of"]


@dataclass(frozen=True)
class TokenLayout:
    """The modality of every position of a batch, and the patch grids of every sample.

    Attributes:
        modality: [batch, positions], int8, on the CPU; values of `Modality`.
        prompt_length: positions from here on were generated.
        grids: a tuple of patch grids for each sample, in the order of the sequence.
        bos: [batch, positions], bool: BOS tokens, and the first position of a sample where that is text; the text
            positions that draw attention whatever they mean.
        notes: a sentence for each thing that is not known, as a grid that could not be known.
    """

    modality: Tensor
    prompt_length: int
    grids: tuple[tuple[PatchGrid, ...], ...]
    bos: Tensor
    notes: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Number of samples."""
        return int(self.modality.shape[0])

    @property
    def length(self) -> int:
        """Number of positions, padding and generated ones included."""
        return int(self.modality.shape[1])

    def mask(self, *modalities: Modality) -> Tensor:
        """[batch, positions], bool: True where the position is of one of these modalities."""
        wanted = torch.tensor([int(modality) for modality in modalities], dtype=self.modality.dtype)
        return torch.isin(self.modality, wanted)

    def positions(self, sample: int, *modalities: Modality) -> Tensor:
        """[count], the positions of these modalities in one sample, ascending."""
        return self.mask(*modalities)[sample].nonzero()[:, 0]

    def counts(self, sample: int | None = None) -> dict[str, int]:
        """Positions by modality ("text", "image", ...), of one sample or of the whole batch; zeros are left out."""
        rows = self.modality if sample is None else self.modality[sample]
        found = {modality.name.lower(): int((rows == modality).sum()) for modality in Modality}
        return {name: count for name, count in found.items() if count}

    def whole(self, sample: int = 0) -> PatchGrid | None:
        """The first grid that shows a sample's first picture, or a frame of its first video, whole; not a crop."""
        return next((grid for grid in self.grids[sample] if grid.index == 0 and grid.box == WHOLE), None)

    def runs(self, sample: int) -> list[tuple[int, int, Modality]]:
        """Stretches of one modality in a sample: (start, end, modality), the end exclusive."""
        row = self.modality[sample]
        edges = [0, *((row[1:] != row[:-1]).nonzero()[:, 0] + 1).tolist(), self.length]
        return [(start, end, Modality(int(row[start]))) for start, end in pairwise(edges)]

    def grown(self, count: int) -> TokenLayout:
        """The layout with `count` generated text positions appended to every sample."""
        text = torch.full((self.batch, count), int(Modality.TEXT), dtype=self.modality.dtype)
        bos = torch.zeros((self.batch, count), dtype=torch.bool)
        return replace(self, modality=torch.cat([self.modality, text], 1), bos=torch.cat([self.bos, bos], 1))

    def sample(self, index: int) -> TokenLayout:
        """The layout of one sample as a batch of one; padding stays, so that positions keep their meaning."""
        return self.reordered([index])

    def unpadded(self, index: int) -> TokenLayout:
        """The layout of one sample as if it had been a batch of its own, without the positions that are padding."""
        present = self.modality[index] != int(Modality.PADDING)
        place = present.cumsum(0) - 1
        grids = tuple(
            replace(grid, positions=torch.where(grid.positions < 0, -1, place[grid.positions.clamp(min=0)]))
            for grid in self.grids[index]
        )
        return replace(
            self,
            modality=self.modality[index, present][None],
            prompt_length=int(present[: self.prompt_length].sum()),
            grids=(grids,),
            bos=self.bos[index, present][None],
        )

    def reordered(self, order: Tensor | list[int]) -> TokenLayout:
        """The layout of the samples `order` names, in that order; names may repeat (beams)."""
        indices = [int(index) for index in order]
        grids = tuple(self.grids[index] for index in indices)
        return replace(self, modality=self.modality[indices], bos=self.bos[indices], grids=grids)

    def repeated(self, count: int) -> TokenLayout:
        """Every sample `count` times in a row, as beams and `num_return_sequences` do."""
        return self.reordered([index for index in range(self.batch) for _ in range(count)])

    def __str__(self) -> str:
        return "\n".join([*(self._describe(sample) for sample in range(self.batch)), *self.notes])

    def _describe(self, sample: int) -> str:
        runs = ", ".join(f"{modality.name.lower()} {start}-{end - 1}" for start, end, modality in self.runs(sample))
        grids = ", ".join(f"{grid.rows} x {grid.columns}" for grid in self.grids[sample])
        return f"sample {sample}: {runs}" + (f"; grids {grids}" if grids else "")


def layout_of(
    anatomy: Anatomy, inputs: Mapping[str, Any], processor: Any = None, tiles: Tiles | None = None
) -> TokenLayout:
    """The layout of a batch, from what the model's forward or generate is given.

    Args:
        anatomy: of the model that takes the inputs.
        inputs: `input_ids` [batch, positions], and what goes with it: `attention_mask`, `mm_token_type_ids`,
            `pixel_values`, `image_grid_thw`, `image_sizes` and so on, under the names the model knows.
        processor: the model's processor; only used where inputs and configuration do not say.
        tiles: where the tiles of the images lie in them, by sample and image, where that is known.

    Raises:
        LayoutError: without `input_ids`, or when pixels or sound are given and no position is theirs.
    """
    ids = inputs.get("input_ids")
    if ids is None:
        raise LayoutError("The inputs have no input_ids, so it is not known which positions are image: give input_ids.")
    ids = ids.detach().cpu()
    modality = torch.full(ids.shape, int(Modality.TEXT), dtype=torch.int8)
    for kind, found in _media_positions(anatomy, inputs, processor, ids):
        modality[found] = int(kind)
    present = present_positions(inputs, ids)
    modality[~present] = int(Modality.PADDING)
    _require_media(anatomy, inputs, modality)
    grids, notes = find_grids(anatomy, inputs, modality, processor, tiles)
    bos = _bos(anatomy, ids, modality, present)
    return TokenLayout(modality, int(ids.shape[1]), grids, bos, notes)


_TYPES = {1: Modality.IMAGE, 2: Modality.VIDEO, 3: Modality.AUDIO}
"""What the values of a processor's `mm_token_type_ids` mean."""

_FEATURES = {
    Modality.IMAGE: ("pixel_values", "pixel_values_images", "image_pixel_values", "image_patches"),
    Modality.VIDEO: ("pixel_values_videos", "video_pixel_values"),
    Modality.AUDIO: ("input_features", "input_values", "input_audio_embeds"),
}


def _media_positions(
    anatomy: Anatomy, inputs: Mapping[str, Any], processor: Any, ids: Tensor
) -> Iterator[tuple[Modality, Tensor]]:
    """Where each modality stands, later ones overruling earlier ones: (modality, bool [batch, positions])."""
    types = inputs.get("mm_token_type_ids")
    types = types.detach().cpu() if types is not None and types.shape == ids.shape else None
    configured = _placeholder_ids(anatomy, processor)
    placed = torch.zeros(ids.shape, dtype=torch.bool)
    for kind in _by_presence(inputs):
        marked = _marked(inputs, kind, ids)
        if configured[kind]:
            marked |= torch.isin(ids, torch.tensor(sorted(configured[kind])))
        elif types is not None:
            marked |= types == next(value for value, name in _TYPES.items() if name is kind)
        placed |= marked
        yield kind, marked
    if types is not None:  # one token may stand for images and for frames of a video; the types tell them apart
        for value, kind in _TYPES.items():
            yield kind, placed & (types == value)


def _by_presence(inputs: Mapping[str, Any]) -> list[Modality]:
    """Modalities, those whose features are given last: a token id that two share is then theirs."""
    return sorted(_FEATURES, key=lambda kind: (_features(inputs, kind) is not None, -kind))


def _features(inputs: Mapping[str, Any], kind: Modality) -> Any:
    return next((inputs[name] for name in _FEATURES[kind] if inputs.get(name) is not None), None)


def _placeholder_ids(anatomy: Anatomy, processor: Any) -> dict[Modality, frozenset[int]]:
    """Ids by modality from the configuration; the processor is used only where that has none.

    A processor's `image_token_id` may be the marker it writes before an image (Gemma 3), not the placeholder.
    """
    found = {}
    for kind in _FEATURES:
        name = kind.name.lower()
        ids = getattr(anatomy, f"{name}_token_ids")
        if not ids and processor is not None:
            listed = getattr(processor, f"{name}_token_ids", None) or [getattr(processor, f"{name}_token_id", None)]
            ids = frozenset(int(item) for item in listed if item is not None)
        found[kind] = ids
    return found


def _marked(inputs: Mapping[str, Any], kind: Modality, ids: Tensor) -> Tensor:
    """Positions that an input marks as this modality's, as Kosmos-2's `image_embeds_position_mask` does."""
    marked = torch.zeros(ids.shape, dtype=torch.bool)
    for name, value in inputs.items():
        if name.startswith(kind.name.lower()) and name.endswith("position_mask") and value is not None:
            marked |= value.detach().cpu().bool()
    return marked


def present_positions(inputs: Mapping[str, Any], ids: Tensor) -> Tensor:
    """[batch, positions], False at padding; LayoutError for a mask of another shape.

    A mask that is already laid out for the layers ([batch, 1, queries, keys], or a dictionary of those) hides padding
    from every row, and each other position is seen by one row at least, its own.
    """
    mask = inputs.get("attention_mask")
    if isinstance(mask, Mapping):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    if isinstance(mask, Tensor) and mask.dim() == 4:
        block = mask[:, 0, :, : ids.shape[1]].detach()
        seen = block if block.dtype == torch.bool else block > torch.finfo(block.dtype).min / 2
        return seen.any(1).cpu().expand(ids.shape)
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        return torch.ones(ids.shape, dtype=torch.bool)
    if mask.shape[0] != ids.shape[0] or mask.shape[1] < ids.shape[1]:
        raise LayoutError(
            f"The attention_mask is {tuple(mask.shape)} and the input_ids are {tuple(ids.shape)}: they must be alike."
        )
    return mask.detach().cpu()[:, -ids.shape[1] :].bool()


def _require_media(anatomy: Anatomy, inputs: Mapping[str, Any], modality: Tensor) -> None:
    for kind in _FEATURES:
        if _features(inputs, kind) is None or (modality == kind).any():
            continue
        name = kind.name.lower()
        ids = sorted(getattr(anatomy, f"{name}_token_ids"))
        reason = f"no position holds its token id {ids}" if ids else "no token id for it is configured"
        raise LayoutError(
            f"The inputs carry {name} features but {reason}, so its positions are not known: "
            f"encode the prompt with the model's processor, or give the layout by hand."
        )


def _bos(anatomy: Anatomy, ids: Tensor, modality: Tensor, present: Tensor) -> Tensor:
    is_text = modality == Modality.TEXT
    first = present & (present.long().cumsum(1) == 1)
    known = torch.isin(ids, torch.tensor(sorted(anatomy.bos_token_ids), dtype=ids.dtype))
    return is_text & (first | known)
