"""The data points that CloudWatch has: values at times, summed up by period when they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

KEPT_SECONDS = 86_400.0
"""How long data points are kept. On AWS those of one minute stay for 15 days (CloudWatch User Guide, "Metrics")."""


@dataclass(frozen=True)
class Series:
    """One metric: its name and the dimensions, sorted, that tell it from others of that name.

    CloudWatch User Guide, "Dimensions": each combination of dimensions is a metric of its own; nothing is added up
    over dimensions that a question leaves out.
    """

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, namespace: object, name: object, dimensions: Iterable[dict[str, Any]]) -> Series:
        """Make one of what the API names: dimensions with Name and Value."""
        pairs = sorted((str(d.get("Name")), str(d.get("Value"))) for d in dimensions)
        return cls(str(namespace), str(name), tuple(pairs))


@dataclass(frozen=True)
class Datapoint:
    """What was published in one period; `start` is the period's beginning in seconds since 1970."""

    start: float
    values: tuple[float, ...]

    def statistic(self, name: str) -> float:
        """Return a statistic by the API's name: Average, Sum, Minimum, Maximum or SampleCount."""
        match name:
            case "Average":
                return sum(self.values) / len(self.values)
            case "Sum":
                return sum(self.values)
            case "Minimum":
                return min(self.values)
            case "Maximum":
                return max(self.values)
            case "SampleCount":
                return float(len(self.values))
            case _:
                raise ValueError(f"{name} is no statistic")


class Metrics:
    """All data points of the cloud. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._points: dict[Series, deque[tuple[float, float]]] = {}
        self._units: dict[Series, str] = {}

    def put(self, series: Series, time: float, value: float, unit: str) -> None:
        """Publish a value; times of a series never go back."""
        self._points.setdefault(series, deque()).append((time, value))
        self._units[series] = unit

    def forget_before(self, time: float) -> None:
        """Drop what is older."""
        for series, points in list(self._points.items()):
            while points and points[0][0] < time:
                points.popleft()
            if not points:
                del self._points[series], self._units[series]

    def unit(self, series: Series) -> str | None:
        """Return the unit a metric is published in; None when there is no such metric."""
        return self._units.get(series)

    def datapoints(self, series: Series, start: float, end: float, period: float) -> list[Datapoint]:
        """Sum up by periods, which begin at multiples of their length (GetMetricStatistics: data is aligned so).

        Args:
            series: the metric.
            start: the first moment that counts.
            end: the first moment that does not count any more.
            period: seconds.

        Returns:
            Only periods that have values, the oldest first.
        """
        found: dict[float, list[float]] = {}
        for time, value in self._points.get(series, ()):
            if start <= time < end:
                found.setdefault(time // period * period, []).append(value)
        return [Datapoint(begin, tuple(values)) for begin, values in sorted(found.items())]

    def __iter__(self) -> Iterator[Series]:
        return iter(self._points)
