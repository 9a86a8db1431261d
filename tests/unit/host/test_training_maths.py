"""Masks of pruning and codebooks of clustering, on small arrays whose answer can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.training._maths import assigned, codebook, mask_of, polynomial, with_codes

RANDOM = np.random.default_rng(0).normal(size=(3, 3, 8, 12)).astype(np.float32)
ALONE = (1, 1)


@pytest.mark.parametrize("sparsity", [0.01, 0.5, 0.8, 0.99])
def test_so_many_weights_go_as_were_named(sparsity):
    mask = mask_of(RANDOM, sparsity, ALONE, None)
    assert (~mask).sum() == round(sparsity * RANDOM.size)


def test_the_smallest_weights_go():
    mask = mask_of(RANDOM, 0.7, ALONE, None)
    assert np.abs(RANDOM[mask]).min() > np.abs(RANDOM[~mask]).max()


def test_equal_weights_go_in_the_same_order_every_time():
    same = np.ones((4, 4), np.float32)
    first = mask_of(same, 0.5, ALONE, None)
    assert first.sum() == 8
    assert np.array_equal(first, mask_of(same.copy(), 0.5, ALONE, None))


def test_of_four_neighbours_along_the_input_the_two_largest_stay():
    kernel = np.array([[4.0, 1], [-3, 2], [2, -9], [1, 8]], np.float32)
    assert mask_of(kernel, 0.5, ALONE, (2, 4)).tolist() == [
        [True, False],
        [True, False],
        [False, True],
        [False, True],
    ]


def test_every_group_of_a_convolution_keeps_two_of_four():
    mask = mask_of(RANDOM, 0.1, ALONE, (2, 4))
    assert np.all(mask.reshape(3, 3, 2, 4, 12).sum(3) == 2)


def test_a_group_at_the_end_that_is_not_whole_keeps_its_largest():
    kernel = np.arange(1.0, 7.0, dtype=np.float32)[:, None]
    assert mask_of(kernel, 0.5, ALONE, (2, 4))[:, 0].tolist() == [False, False, True, True, True, True]


def test_a_block_stands_or_falls_as_a_whole():
    mask = mask_of(RANDOM, 0.5, (2, 4), None)
    blocks = mask.reshape(9, 2, 4, 6, 2).sum((2, 4))
    assert set(np.unique(blocks)) == {0, 8}
    assert (blocks == 0).sum() == blocks.size // 2


def test_the_block_of_the_least_sum_goes():
    kernel = np.array([[9.0, 1], [1, 1], [2, 1], [2, 2]], np.float32)
    assert mask_of(kernel, 0.25, (1, 2), None)[:, 1].tolist() == [False, False, True, True]


def test_what_is_left_of_a_block_at_the_edge_is_judged_by_its_mean():
    kernel = np.array([[1.0], [1], [5]], np.float32)
    assert mask_of(kernel, 0.5, (1, 2), None)[:, 0].tolist() == [False, False, True]


def test_the_sparsity_grows_from_nothing_to_its_end_and_never_falls():
    curve = [polynomial(step, 20, 0.8) for step in range(25)]
    assert curve[0] == 0.0
    assert curve[20:] == [0.8] * 5
    assert curve == sorted(curve)
    assert curve[5] > 0.4


# Clustering


def test_values_that_lie_in_heaps_get_the_middle_of_each():
    heaps = np.concatenate([np.linspace(m - 0.1, m + 0.1, 50) for m in (-3.0, 0.5, 4.0)]).astype(np.float32)
    assert codebook(heaps, 3, seed=1) == pytest.approx([-3.0, 0.5, 4.0], abs=1e-6)


def test_few_values_are_their_own_codebook():
    assert codebook(np.array([2, 1, 2, 3, 1], np.float32), 8, seed=1).tolist() == [1, 2, 3]


@pytest.mark.parametrize("count", [2, 16, 100])
def test_each_weight_gets_the_centroid_nearest_to_it(count):
    codes, index = with_codes(RANDOM, count, 1, keep_zeros=False)
    assert len(codes) == count
    distance = np.abs(RANDOM.astype(np.float64)[..., None] - codes)
    assert np.abs(RANDOM - codes[index]).max() == pytest.approx(distance.min(-1).max())
    assert index.shape == RANDOM.shape


def test_more_centroids_leave_a_smaller_error():
    errors = [
        float(np.square(RANDOM - (c := codebook(RANDOM, n, 1))[assigned(RANDOM, c)]).mean()) for n in (4, 16, 64)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_the_same_seed_gives_the_same_codebook():
    assert np.array_equal(codebook(RANDOM, 16, 3), codebook(RANDOM.copy(), 16, 3))


def test_what_was_pruned_is_a_place_of_its_own_and_nothing_else_is_zero():
    sparse = RANDOM * mask_of(RANDOM, 0.7, ALONE, None)
    codes, index = with_codes(sparse, 16, 1, keep_zeros=True)
    assert (len(codes), (codes == 0).sum()) == (16, 1)
    assert codes.tolist() == sorted(codes.tolist())
    assert np.array_equal(codes[index] == 0, sparse == 0)
