"""CloudWatch's alarms as they act: metrics move their states, and an alarm in ALARM calls its scaling policy.

Sources: CloudWatch User Guide, "Alarm evaluation", "Configuring how CloudWatch alarms treat missing data",
"Avoiding premature transitions to alarm state", "Alarm actions".
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from localcloud import scaling
from localcloud.api import cloudwatch
from localcloud.api.metric_records import Datapoint, Series

if TYPE_CHECKING:
    from moto.cloudwatch.models import Alarm

    from localcloud.api import ControlPlane

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"

_SPARE_PERIODS = 2
"""How many more periods than it evaluates an alarm looks back for data: as in the tables of AWS's guide."""

_COMPARISONS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}


@dataclass(frozen=True)
class Seen:
    """A data point of the evaluation range: whether it breaches, and its age in periods (0 is the newest)."""

    breaching: bool
    age: int


def judge(seen: Sequence[Seen], periods: int, to_alarm: int, missing: str) -> str | None:
    """Say in which state an alarm belongs.

    Args:
        seen: the data points that there are in the evaluation range, the newest first.
        periods: how many periods the alarm evaluates (N).
        to_alarm: how many of them must breach (M).
        missing: how missing data is treated: missing, ignore, breaching or notBreaching.

    Returns:
        OK, ALARM or INSUFFICIENT_DATA; None to stay in the state it is in.
    """
    real = seen[:periods]
    lacking = periods - len(real)
    breaching = sum(point.breaching for point in real)
    if breaching >= to_alarm or (missing == "breaching" and breaching + lacking >= to_alarm):
        return ALARM
    if missing in ("breaching", "notBreaching"):
        return OK
    if not real:
        return INSUFFICIENT_DATA if missing == "missing" else None
    if lacking and breaching == len(real) and real[-1].age + 1 >= to_alarm:
        return ALARM if missing == "missing" else None
    return OK


def evaluate(plane: ControlPlane, now: float) -> None:
    """Move every alarm to its state, and do what those in ALARM are for.

    An alarm calls Auto Scaling in every period that it stays in ALARM, not only when it gets there ("Alarm actions").

    Args:
        plane: the control plane, whose lock is held.
        now: the end of the last period, in seconds since 1970.
    """
    alarms = [a for a in cloudwatch.backend(plane).alarms.values() if a.metric_name and a.statistic and not a.rule]
    newest: dict[str, Datapoint] = {}
    for alarm in alarms:
        points = _range(plane, alarm, now)
        if points:
            newest[alarm.name] = points[0]
        _move(alarm, points, now)
    for alarm in alarms:
        if alarm.state_value == ALARM and alarm.actions_enabled and alarm.name in newest:
            for action in alarm.alarm_actions:
                scaling.follow(plane, alarm, action, newest[alarm.name])


def _range(plane: ControlPlane, alarm: Alarm, now: float) -> list[Datapoint]:
    """The alarm's data points in its evaluation range, the newest first."""
    dimensions = [{"Name": d.name, "Value": d.value} for d in alarm.dimensions]
    series = Series.of(alarm.namespace, alarm.metric_name, dimensions)
    end = now // alarm.period * alarm.period
    start = end - (alarm.evaluation_periods + _SPARE_PERIODS) * alarm.period
    return plane.metrics.datapoints(series, start, end, alarm.period)[::-1]


def _move(alarm: Alarm, points: list[Datapoint], now: float) -> None:
    breaches, _ = _COMPARISONS[alarm.comparison_operator]
    end = now // alarm.period * alarm.period
    values = [point.statistic(alarm.statistic) for point in points]
    seen = [
        Seen(breaches(value, alarm.threshold), round((end - point.start) / alarm.period) - 1)
        for point, value in zip(points, values, strict=True)
    ]
    needed = alarm.datapoints_to_alarm or alarm.evaluation_periods
    state = judge(seen, alarm.evaluation_periods, needed, alarm.treat_missing_data or "missing")
    if state is None or state == alarm.state_value:
        return
    shown = min(len(points), alarm.evaluation_periods)
    data = {
        "version": "1.0",
        "queryDate": _iso(now),
        "startDate": _iso(points[shown - 1].start) if shown else None,
        "statistic": alarm.statistic,
        "period": alarm.period,
        "recentDatapoints": values[:shown][::-1],
        "threshold": alarm.threshold,
    }
    alarm.update_state(_reason(alarm, state, points[:shown], values, seen, needed), json.dumps(data), state)


def _reason(
    alarm: Alarm, state: str, points: list[Datapoint], values: list[float], seen: list[Seen], needed: int
) -> str:
    """Word the change as AWS does in StateReason."""
    count = alarm.evaluation_periods
    if state == INSUFFICIENT_DATA:
        return f"Insufficient Data: {count} datapoint{'s were' if count > 1 else ' was'} unknown."
    _, words = _COMPARISONS[alarm.comparison_operator]
    told = [
        f"{value} ({datetime.fromtimestamp(point.start, UTC):%d/%m/%y %H:%M:%S})"
        for point, value, one in zip(points, values, seen, strict=False)
        if one.breaching == (state == ALARM)
    ]
    if not told:
        missing = "Breaching" if state == ALARM else "NonBreaching"
        return f"Threshold Crossed: {count - len(points)} missing datapoints of {count} were treated as [{missing}]."
    verb = "was" if len(told) == 1 else "were"
    # So many good ones are enough to make the bad ones too few.
    enough, change = (needed, "OK -> ALARM") if state == ALARM else (count - needed + 1, "ALARM -> OK")
    return (
        f"Threshold Crossed: {len(told)} out of the last {count} datapoints [{', '.join(told)}] "
        f"{verb}{' not' if state == OK else ''} {words} the threshold ({alarm.threshold}) "
        f"(minimum {enough} datapoint{'' if enough == 1 else 's'} for {change} transition)."
    )


def _iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.000+0000"
