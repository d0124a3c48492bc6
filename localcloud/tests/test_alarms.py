"""CloudWatch's alarms: how data points, and those that are missing, move their states."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from localcloud.alarms import Seen, judge
from localcloud.tests.api_cloud import EPOCH, ApiCloud, refused

TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")


@pytest.mark.parametrize(
    ("points", "to_alarm", "states"),
    [
        ("0-X-X", 3, "OK OK OK OK"),
        ("0----", 3, "OK OK OK OK"),
        ("-----", 3, "INSUFFICIENT_DATA same ALARM OK"),
        ("0XX-X", 3, "ALARM ALARM ALARM ALARM"),
        ("--X--", 3, "ALARM same ALARM OK"),
        ("0-X-X", 2, "ALARM ALARM ALARM ALARM"),
        ("00X0X", 2, "ALARM ALARM ALARM ALARM"),
        ("0-X--", 2, "OK OK ALARM OK"),
        ("----0", 2, "OK OK ALARM OK"),
        ("---X-", 2, "ALARM same ALARM OK"),
    ],
)
def test_missing_data(points: str, to_alarm: int, states: str) -> None:
    """CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing data": its two tables, N is 3."""
    seen = [Seen(one == "X", age) for age, one in enumerate(reversed(points)) if one != "-"]
    told = [judge(seen, 3, to_alarm, missing) or "same" for missing in TREATMENTS]
    assert told == states.split()


def test_a_single_new_point_is_no_alarm() -> None:
    """CloudWatch User Guide, "Avoiding premature transitions to alarm state"."""
    assert judge([Seen(True, 0)], 3, 3, "missing") == "OK"


def put(cloud: ApiCloud, name: str = "hot", **more: Any) -> None:  # noqa: ANN401 - PutMetricAlarm's
    cloud.watch.put_metric_alarm(
        **{
            "AlarmName": name,
            "Namespace": "AWS/EC2",
            "MetricName": "CPUUtilization",
            "Statistic": "Average",
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "Threshold": 70.0,
            "EvaluationPeriods": 2,
            "Period": 60,
            **more,
        }
    )


def alarm(cloud: ApiCloud, name: str = "hot") -> dict[str, Any]:
    (told,) = cloud.watch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return dict(told)


def test_alarm_follows_its_metric(cloud: ApiCloud) -> None:
    """CloudWatch User Guide, "Alarm evaluation": reasons and data as DescribeAlarms words them."""
    one = cloud.run()
    put(cloud, Dimensions=[{"Name": "InstanceId", "Value": one}])
    assert alarm(cloud)["StateValue"] == "INSUFFICIENT_DATA"
    assert alarm(cloud)["StateReason"] == "Unchecked: Initial alarm creation"
    cloud.minutes(1, 30.0)
    assert alarm(cloud)["StateValue"] == "OK"
    cloud.minutes(1, 70.0)
    assert alarm(cloud)["StateValue"] == "OK"
    before = alarm(cloud)["StateUpdatedTimestamp"]
    cloud.minutes(1, 90.0)
    told = alarm(cloud)
    assert told["StateValue"] == "ALARM"
    assert told["StateUpdatedTimestamp"] > before
    newer, older = (f"{datetime.fromtimestamp(EPOCH + t, UTC):%d/%m/%y %H:%M:%S}" for t in (1120, 1060))
    assert told["StateReason"] == (
        f"Threshold Crossed: 2 out of the last 2 datapoints [90.0 ({newer}), 70.0 ({older})] were greater than or "
        "equal to the threshold (70.0) (minimum 2 datapoints for OK -> ALARM transition)."
    )
    assert json.loads(told["StateReasonData"])["recentDatapoints"] == [70.0, 90.0]
    cloud.minutes(1, 10.0)
    assert alarm(cloud)["StateReason"].endswith(
        "was not greater than or equal to the threshold (70.0) (minimum 1 datapoint for ALARM -> OK transition)."
    )
    cloud.ec2.stop_instances(InstanceIds=[one])
    cloud.minutes(5)
    assert alarm(cloud)["StateReason"] == "Insufficient Data: 2 datapoints were unknown."
    assert alarm(cloud)["StateValue"] == "INSUFFICIENT_DATA"


def test_alarm_that_is_changed_keeps_its_state(cloud: ApiCloud) -> None:
    """API Reference, "PutMetricAlarm" (moto says OK to a new alarm and to a changed one)."""
    one = cloud.run()
    dimensions = [{"Name": "InstanceId", "Value": one}]
    put(cloud, EvaluationPeriods=1, Dimensions=dimensions)
    cloud.minutes(1, 90.0)
    assert alarm(cloud)["StateValue"] == "ALARM"
    put(cloud, EvaluationPeriods=1, Threshold=95.0, Dimensions=dimensions)
    assert (alarm(cloud)["StateValue"], alarm(cloud)["Threshold"]) == ("ALARM", 95.0)
    cloud.minutes(1, 90.0)
    assert alarm(cloud)["StateValue"] == "OK"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"AlarmActions": ["arn:aws:sns:ap-northeast-2:123456789012:tell"]}, "UnsupportedOperation"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "UnsupportedOperation"),
        ({"Period": 45}, "ValidationError"),
        ({"DatapointsToAlarm": 3}, "ValidationError"),
        ({"TreatMissingData": "maybe"}, "UnsupportedOperation"),
    ],
)
def test_wrong_alarms_are_refused(cloud: ApiCloud, parameters: dict[str, Any], code: str) -> None:
    """API Reference, "PutMetricAlarm"; alarm actions would be accepted and do nothing."""
    assert refused(lambda: put(cloud, **parameters)) == code
