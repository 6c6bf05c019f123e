"""Histograms."""

from tinyvex.storage.engine.store_statistics import Histogram


def test_a_quantity_is_counted_under_the_first_bound_that_it_does_not_exceed():
    """A quantity equal to a bound is within it; the last count is of those above all bounds."""
    histogram = Histogram((1.0, 2.0))
    for quantity in (0.5, 1.0, 1.5, 9.0):
        histogram.add(quantity)
    assert histogram.counts == [2, 1, 1]
    assert histogram.total == 12.0
