"""Laws of masks and of the gap code."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deftx.core.mask import Mask, decode_gaps, encode_gaps, load_mask, mask_layout, mask_tensors
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile, save_tensors


def plain_decode(code, escape):
    """The code read one value at a time."""
    position, gap, found = -1, 0, []
    for value in code:
        gap += value
        if value != escape:
            position += gap + 1
            found.append(position)
            gap = 0
    return found


def plain_encode(index, escape):
    """The code written one value at a time."""
    code, previous = [], -1
    for position in index:
        gap = position - previous - 1
        code += gap // escape * [escape] + [gap % escape]
        previous = position
    return code


@given(
    st.one_of(
        st.lists(st.integers(0, 400_000), unique=True, max_size=60),
        st.lists(st.integers(0, 3_000), unique=True, max_size=60),
    ).map(sorted)
)
def test_decode_inverts_encode(index):
    code = encode_gaps(torch.tensor(index, dtype=torch.int64))
    narrow, wide = plain_encode(index, 255), plain_encode(index, 65_535)
    assert code.tolist() == (narrow if len(narrow) <= 2 * len(wide) else wide)
    assert decode_gaps(code).tolist() == index
    assert plain_decode(code.tolist(), torch.iinfo(code.dtype).max) == index


@pytest.mark.parametrize("index", [[0], [254], [255], [256], [510], [65_534], [65_535], [65_536]])
def test_escapes_at_the_edges(index):
    assert decode_gaps(encode_gaps(torch.tensor(index))).tolist() == index


def test_the_smaller_code_is_taken():
    dense, thin = torch.arange(0, 1000, 3), torch.arange(0, 10**7, 10**5)
    assert encode_gaps(dense).dtype == torch.uint8
    assert encode_gaps(thin).dtype == torch.uint16


def test_at_most_5_1_bytes_an_entry_above_a_million():
    """Embedding rows that are touched or not, beside matrices at the language density."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(60_000, 1, generator=generator) < 0.1
    embeddings = (torch.rand(60_000, 100, generator=generator) < 0.08) & rows
    layers = torch.rand(40_000_000, generator=generator) < 0.0276
    size = entries = 0
    for chosen in (embeddings, layers):
        index = chosen.reshape(-1).nonzero().reshape(-1)
        code = encode_gaps(index)
        size += code.numel() * code.element_size() + 4 * len(index)
        entries += len(index)
    assert entries > 1_000_000
    assert size / entries <= 5.1


def test_masks_without_a_common_entry_unite():
    shapes = {"a": (3, 3), "b": (2,)}
    first = Mask({"a": torch.tensor([1, 7]), "b": torch.tensor([0])}, shapes)
    second = Mask({"a": torch.tensor([0, 3, 8])}, {"a": (3, 3)})
    for united in (first | second, second | first):
        assert united.index["a"].tolist() == [0, 1, 3, 7, 8]
        assert united.index["b"].tolist() == [0] and united.shapes == shapes
    assert len(first | Mask({}, {})) == 3
    with pytest.raises(ValueError, match="both masks choose entries of a"):
        first | first
    with pytest.raises(ArtefactError, match=r"a has shape \(3, 3\), in the model \(9,\)"):
        first | Mask({"a": torch.tensor([0])}, {"a": (9,)})


def test_a_mask_that_does_not_fit_names_the_tensor():
    mask = Mask({"a": torch.tensor([1])}, {"a": (2, 3)})
    with pytest.raises(ArtefactError, match="the model has no tensor a"):
        mask.check_fits({})
    with pytest.raises(ArtefactError, match=r"a has shape \(2, 3\), in the model \(3, 2\)"):
        mask.check_fits({"a": (3, 2)})


def test_a_stored_mask_comes_back_and_lies_are_found(tmp_path):
    mask = Mask({"a": torch.tensor([1, 4])}, {"a": (2, 3)})
    path, layout = tmp_path / "mask.safetensors", mask_layout(mask)
    save_tensors(path, mask_tensors(mask), layout=layout)
    loaded = load_mask(TensorFile(path))
    assert torch.equal(loaded.index["a"], mask.index["a"]) and loaded.shapes == mask.shapes
    for shape, entries, message in (
        ([2, 3], 3, "decodes to 2 entries, the metadata says 3"),
        ([2, 2], 2, "leads to position 4 of 4"),
    ):
        save_tensors(path, mask_tensors(mask), layout={"a": {"shape": shape, "entries": entries}})
        with pytest.raises(ArtefactError, match=message):
            load_mask(TensorFile(path))
