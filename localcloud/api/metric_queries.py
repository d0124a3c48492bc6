"""CloudWatch's questions about metrics. moto adds up over dimensions and begins periods at the first value it has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult

from localcloud.api.cloudwatch import SERVICE
from localcloud.api.metric_records import Datapoint, Series
from localcloud.api.registry import AwsError, Call, unsupported

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

__all__ = ["SERVICE"]

STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_SHORT_PERIODS = (1, 5, 10, 30)
_MOST_STATISTICS = 1440
_MOST_DATA = 100_800
_MOST_QUERIES = 500


@SERVICE.action("GetMetricStatistics")
def get_metric_statistics(call: Call) -> ActionResult:
    """Return one metric by periods (API Reference, "GetMetricStatistics")."""
    params = call.params
    call.refuse_parameters({"ExtendedStatistics": "percentiles"})
    wanted = params.get("Statistics") or []
    if not wanted:
        raise AwsError("InvalidParameterCombination", "Must specify either Statistics or ExtendedStatistics")
    for name in wanted:
        _check_statistic(name)
    start, end = _span(params)
    period = _period(call.plane, params.get("Period"))
    if (end - start) / period > _MOST_STATISTICS:
        raise AwsError(
            "InvalidParameterCombination",
            f"You have requested up to {int((end - start) / period):,} datapoints, which exceeds the limit of "
            f"{_MOST_STATISTICS:,}. You may reduce the datapoints requested by increasing Period, or decreasing the "
            "time range.",
        )
    series = Series.of(params.get("Namespace"), params.get("MetricName"), params.get("Dimensions") or [])
    unit = call.plane.metrics.unit(series)
    points = _points(call.plane, series, start, end, period, params.get("Unit"))
    answer = [
        {"Timestamp": _time(point.start), "Unit": unit, **{name: point.statistic(name) for name in wanted}}
        for point in points
    ]
    return ActionResult({"Label": params.get("MetricName"), "Datapoints": answer})


@SERVICE.action("GetMetricData")
def get_metric_data(call: Call) -> ActionResult:
    """Return several metrics by periods, the newest first unless asked otherwise (API Reference, "GetMetricData")."""
    params = call.params
    start, end = _span(params)
    queries = params.get("MetricDataQueries") or []
    if not 1 <= len(queries) <= _MOST_QUERIES:
        raise AwsError("ValidationError", f"MetricDataQueries takes 1 to {_MOST_QUERIES} queries.")
    newest_first = (params.get("ScanBy") or "TimestampDescending") == "TimestampDescending"
    results = []
    for query in queries:
        series, statistic, points = _answer(call.plane, query, start, end)
        if query.get("ReturnData") is False:
            continue
        ordered = points[::-1] if newest_first else points
        results.append(
            {
                "Id": query.get("Id"),
                "Label": query.get("Label") or series.name,
                "Timestamps": [_time(point.start) for point in ordered],
                "Values": [point.statistic(statistic) for point in ordered],
                "StatusCode": "Complete",
            }
        )
    return ActionResult({"MetricDataResults": results, "Messages": []})


@SERVICE.action("ListMetrics")
def list_metrics(call: Call) -> ActionResult:
    """List the metrics that have data points."""
    params = call.params
    asked = [(d.get("Name"), d.get("Value")) for d in params.get("Dimensions") or []]
    found = [
        series
        for series in call.plane.metrics
        if params.get("Namespace") in (None, series.namespace)
        and params.get("MetricName") in (None, series.name)
        and all(any(n == name and value in (None, v) for n, v in series.dimensions) for name, value in asked)
    ]
    start = int(params.get("NextToken") or 0)
    following = str(start + _MOST_QUERIES) if start + _MOST_QUERIES < len(found) else None
    metrics = [
        {
            "Namespace": series.namespace,
            "MetricName": series.name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in series.dimensions],
        }
        for series in found[start : start + _MOST_QUERIES]
    ]
    return ActionResult({"Metrics": metrics, "NextToken": following})


def _answer(
    plane: ControlPlane, query: dict[str, Any], start: float, end: float
) -> tuple[Series, str, list[Datapoint]]:
    if query.get("Expression"):
        raise unsupported("metric math and Metrics Insights (Expression)")
    stat = query.get("MetricStat") or {}
    if not stat:
        raise AwsError("ValidationError", "The parameter MetricDataQueries.member.1.MetricStat is required.")
    metric, statistic = stat.get("Metric") or {}, str(stat.get("Stat"))
    _check_statistic(statistic)
    period = _period(plane, stat.get("Period"))
    if (end - start) / period > _MOST_DATA:
        raise AwsError("ValidationError", f"A query returns up to {_MOST_DATA:,} data points.")
    series = Series.of(metric.get("Namespace"), metric.get("MetricName"), metric.get("Dimensions") or [])
    return series, statistic, _points(plane, series, start, end, period, stat.get("Unit"))


def _points(
    plane: ControlPlane, series: Series, start: float, end: float, period: int, unit: str | None
) -> list[Datapoint]:
    """Take whole periods: the first one begins before the start where that lies within it."""
    if unit not in (None, plane.metrics.unit(series)):
        return []
    return plane.metrics.datapoints(series, start // period * period, end, period)


def _check_statistic(name: str) -> None:
    if name not in STATISTICS:
        raise unsupported(f"the statistic {name!r}")


def _span(params: dict[str, Any]) -> tuple[float, float]:
    start, end = _seconds(params.get("StartTime")), _seconds(params.get("EndTime"))
    if start >= end:
        raise AwsError("InvalidParameterValue", "The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def _seconds(time: object) -> float:
    if not isinstance(time, datetime):
        raise AwsError("MissingParameter", "The parameters StartTime and EndTime are required.")
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _period(plane: ControlPlane, given: object) -> int:
    """Refuse what AWS refuses, but let the cloud's own period through as well."""
    period = int(str(given or 0))
    own = plane.settings.metric_period
    if period not in _SHORT_PERIODS and (period < 1 or (period % 60 and period % own)):
        raise AwsError(
            "InvalidParameterValue", "The parameter Period must be 1, 5, 10, 30 or a multiple of 60 seconds."
        )
    return period
