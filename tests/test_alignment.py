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


def test_equal_representations_align_perfectly_and_orthogonal_ones_apart():
    found = align(IDS[:8], np.eye(8), IDS[:8], 3 * np.eye(8))
    assert list(found.values()) == [pytest.approx(1), pytest.approx(0), 1]


def test_a_model_that_confuses_languages_finds_nothing():
    found = align(IDS[:8], np.eye(8), IDS[:8], np.roll(np.eye(8), 1, axis=0))
    assert found["retrieval"] == 0
    assert found["similarity_matched"] < found["similarity_mismatched"]


def test_items_represented_alike_are_all_found():
    """As with one premise in several pairs: none of them is nearer than the others."""
    rows = np.random.default_rng(0).normal(size=(1, 64)).repeat(9, axis=0)
    assert align(IDS[:9], rows, IDS[:9], rows)["retrieval"] == 1


def test_fewer_than_two_common_items_say_nothing():
    assert align(IDS[:2], np.eye(2), IDS[1:3], np.eye(2)) is None


def test_a_state_of_zeros_is_like_nothing():
    found = align(IDS[:2], np.zeros((2, 3)), IDS[:2], np.ones((2, 3)))
    assert (found["similarity_matched"], found["similarity_mismatched"]) == (0, 0)
