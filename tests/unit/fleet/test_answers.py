import numpy as np
import pytest

from slipway.fleet.answers import Apart, add, compare, compare_all


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (np.float32([1, 2]), np.float32([1, 2.5]), Apart(2, 0.5, 0.5)),
        (np.float16([1, 2]), np.float64([1, 2]), Apart(2)),
        (np.int64([1, 2, 3]), np.int64([1, 0, 0]), Apart(3, exact=True, differing=2)),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), Apart(2, 0, 0, True, 1)),
        (np.array([True]), np.array([True]), Apart(1, exact=True)),
        (np.int64([1]), np.float32([1.5]), Apart(1, exact=True, differing=1)),
        (np.array(["1"], object), np.float32([1]), Apart(1, exact=True, differing=1)),
        (np.zeros((2, 3)), np.zeros((3, 2)), Apart(misshapen=1)),
        (np.zeros((0, 3)), np.zeros((0, 3)), Apart()),
    ],
)
def test_numbers_lie_apart_and_everything_else_is_equal_or_not(mine, theirs, expected):
    assert compare(mine, theirs) == expected


def test_what_overflows_is_still_a_number_that_json_can_hold():
    found = compare(np.float64([1.7e308]), np.float64([-1.7e308]))
    assert np.isfinite((found + found).distance)


def test_measurements_add_up_output_by_output():
    one = compare_all({"y": np.float32([0, 1])}, {"y": np.float32([0, 2]), "other": np.zeros(1)})
    both = add(add({}, one), {"y": Apart(2, 0.5, 0.5), "z": Apart(misshapen=1)})
    assert both == {"y": Apart(4, 1.0, 1.5), "z": Apart(misshapen=1)}


@pytest.mark.parametrize(
    ("apart", "distance"),
    [(Apart(9, 0.25, 1.0), 0.25), (Apart(9, exact=True, differing=2), 2.0), (Apart(9), 0.0)],
)
def test_the_distance_is_the_largest_difference_or_the_count_of_what_differs(apart, distance):
    assert apart.distance == distance
