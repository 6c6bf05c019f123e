"""Histograms."""

from tinyvex.storage.engine.store_statistics import Histogram


def test_buckets_are_cumulative_and_end_at_infinity():
    """Buckets follow Prometheus; a value equal to a bound is within it."""
    histogram = Histogram((1.0, 2.0))
    for quantity in (0.5, 1.0, 1.5, 9.0):
        histogram.add(quantity)
    assert histogram.buckets() == [("1", 2.0), ("2", 3.0), ("+Inf", 4.0)]
    assert histogram.total == 12.0
