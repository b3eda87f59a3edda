"""A set of entries of a model's tensors: which positions are chosen."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from deftx.store.errors import ArtefactError, InputError
from deftx.store.tensors import TensorFile


@dataclass(frozen=True)
class Mask:
    """Chosen entries.

    Attributes:
        index: tensor name → row-major flat positions (k_i,), int64, ascending, without repeats,
            on the device of what they were chosen from; tensors without a chosen entry are absent.
        shapes: the same names → shape of the dense tensor.
    """

    index: dict[str, torch.Tensor]
    shapes: dict[str, tuple[int, ...]]

    def __len__(self) -> int:
        """K, the number of chosen entries."""
        return sum(len(index) for index in self.index.values())

    def __or__(self, other: "Mask") -> "Mask":
        """The union of two masks without a common entry. Raises InputError if there is one, and
        ArtefactError if they disagree on a tensor's shape."""
        self.check_fits({**self.shapes, **other.shapes}, "the masks disagree")
        index = {**self.index, **other.index}
        for name in sorted(self.index.keys() & other.index.keys()):
            index[name] = torch.cat([self.index[name], other.index[name]]).sort().values
            if (index[name].diff() == 0).any():
                raise InputError(f"both masks choose entries of {name}, and some of them both")
        return Mask(index, {**self.shapes, **other.shapes})

    def only(self, names: Container[str]) -> "Mask":
        """The chosen entries of the tensors of these names."""
        index = {name: index for name, index in self.index.items() if name in names}
        return Mask(index, {name: self.shapes[name] for name in index})

    def dense(self, name: str) -> torch.Tensor:
        """The mask of one tensor as booleans in the tensor's shape, which must be known."""
        index = self.index[name]
        mask = torch.zeros(self.shapes[name], dtype=torch.bool, device=index.device)
        mask.view(-1)[index] = True
        return mask

    def check_fits(self, shapes: Mapping[str, tuple[int, ...]], what: str = "mask") -> None:
        """Raise ArtefactError, naming the tensor, unless each one is in `shapes` as it is here."""
        for name, shape in self.shapes.items():
            if name not in shapes:
                raise ArtefactError(f"{what}: the model has no tensor {name}")
            if tuple(shapes[name]) != tuple(shape):
                raise ArtefactError(
                    f"{what}: {name} has shape {tuple(shape)}, in the model {tuple(shapes[name])}"
                )


def encode_gaps(index: torch.Tensor) -> torch.Tensor:
    """Ascending flat positions as a code of gaps, uint8 or uint16, whichever is smaller.

    A gap is the number of positions skipped since the last one. The largest value of the type
    is the escape: it adds itself to the gap that the next code continues. So a position is the
    running sum of the codes plus the number of entries before it.
    """
    gaps = np.diff(index.cpu().numpy(), prepend=-1)
    gaps -= 1
    long = gaps[gaps >= 255]  # few, and only they need more than one code
    narrow, wide = (len(gaps) + int((long // escape).sum()) for escape in (255, 65_535))
    dtype = np.uint8 if narrow <= 2 * wide else np.uint16
    escape = np.iinfo(dtype).max
    code = gaps.astype(dtype)
    place = np.flatnonzero(gaps >= escape)
    escapes, code[place] = np.divmod(gaps[place], escape)
    return torch.from_numpy(np.insert(code, np.repeat(place, escapes), escape))


def decode_gaps(code: torch.Tensor) -> torch.Tensor:
    """Inverse of `encode_gaps`: ascending flat positions, int64."""
    codes = code.numpy()
    position = codes.cumsum(dtype=np.int64)
    ends = codes != np.iinfo(codes.dtype).max
    if not ends.all():
        position = position[ends]
    position += np.arange(len(position))
    return torch.from_numpy(position)


def mask_tensors(mask: Mask) -> dict[str, torch.Tensor]:
    """The mask as tensors to store: `{name}.gaps`."""
    return {f"{name}.gaps": encode_gaps(index) for name, index in mask.index.items()}


def mask_layout(mask: Mask) -> dict[str, dict[str, object]]:
    """The metadata of a mask: name of a tensor → its dense shape and number of chosen entries."""
    return {
        name: {"shape": list(mask.shapes[name]), "entries": len(index)}
        for name, index in mask.index.items()
    }


def load_mask(file: TensorFile) -> Mask:
    """The mask of an artefact of the stages `mask` or `sparse`, or of a composed vector. Raises
    ArtefactError if it has none, or a tensor's code does not fit the tensor or the metadata."""
    if "layout" not in file.provenance:
        raise ArtefactError(f"{file.path}: no mask in it (no `layout` in its metadata)")
    mask = Mask({}, {})
    for name, known in sorted(file.provenance["layout"].items()):
        positions = mask.index[name] = decode_gaps(file[f"{name}.gaps"])
        shape = mask.shapes[name] = tuple(known["shape"])
        if len(positions) != known["entries"]:
            raise ArtefactError(
                f"{file.path}: {name}.gaps decodes to {len(positions)} entries, the metadata says "
                f"{known['entries']}"
            )
        if len(positions) and int(positions[-1]) >= prod(shape):
            raise ArtefactError(
                f"{file.path}: {name}.gaps leads to position {int(positions[-1])} of {prod(shape)}"
            )
    return mask
