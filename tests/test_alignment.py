"""Alignment on representations whose cosines are known."""

import numpy as np
import pytest

from deftx.report import alignment
from deftx.report.alignment import align

IDS = np.array([f"item-{i}" for i in range(40)])


@pytest.mark.parametrize("at_once", [7, 1024])
def test_alignment_is_what_plain_loops_count(at_once, monkeypatch):
    monkeypatch.setattr(alignment, "AT_ONCE", at_once)
    generator = np.random.default_rng(0)
    source = generator.normal(size=(40, 8)).astype(np.float16)
    mine = (source + generator.normal(size=(40, 8))).astype(np.float16)
    order = generator.permutation(40)[:30]
    found = align(IDS[order], mine[order], IDS[5:], source[5:])

    def cosine(i, j):
        a, b = mine[i].astype(float), source[j].astype(float)
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    common = [i for i in order if i >= 5]
    matched = [cosine(i, i) for i in common]
    others = [cosine(i, j) for i in common for j in common if i != j]
    hits = [max(common, key=lambda j, i=i: cosine(i, j)) == i for i in common]
    assert 0 < np.mean(hits) < 1
    assert found["similarity_matched"] == pytest.approx(np.mean(matched))
    assert found["similarity_mismatched"] == pytest.approx(np.mean(others))
    assert found["retrieval"] == np.mean(hits)


EYE, SAME = np.eye(8), np.random.default_rng(0).normal(size=(1, 64)).repeat(8, axis=0)


@pytest.mark.parametrize(
    ("mine", "source", "expected"),
    [
        pytest.param(EYE, 3 * EYE, (1, 0, 1), id="orthogonal items are found"),
        pytest.param(EYE, np.roll(EYE, 1, axis=0), (0, 1 / 7, 0), id="confused ones are not"),
        pytest.param(SAME, SAME, (1, 1, 1), id="of items that are alike none is nearer"),
        pytest.param(0 * EYE, EYE, (0, 0, 0), id="a state of zeros is like nothing"),
    ],
)
def test_alignment_of_special_states(mine, source, expected):
    found = align(IDS[:8], mine, IDS[:8], source)
    assert list(found.values())[:2] == [pytest.approx(x, abs=1e-12) for x in expected[:2]]
    if mine.any():
        assert found["retrieval"] == expected[2]


def test_fewer_than_two_common_items_say_nothing():
    assert align(IDS[:2], np.eye(2), IDS[1:3], np.eye(2)) is None
