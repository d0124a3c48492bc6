"""CloudWatch's metrics: what instances use, and how it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from localcloud.tests.api_cloud import EPOCH, ApiCloud, refused


def at(seconds: float) -> datetime:
    """A moment of the test's clock."""
    return datetime.fromtimestamp(EPOCH + seconds, UTC)


def statistics(cloud: ApiCloud, dimension: str, value: str, **more: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - boto3
    asked: dict[str, Any] = {
        "Namespace": "AWS/EC2",
        "MetricName": "CPUUtilization",
        "Dimensions": [{"Name": dimension, "Value": value}],
        "StartTime": at(1000),
        "EndTime": at(cloud.now),
        "Period": 60,
        "Statistics": ["Average", "SampleCount"],
        **more,
    }
    found = cloud.watch.get_metric_statistics(**asked)["Datapoints"]
    return sorted(found, key=lambda point: point["Timestamp"])


def test_instances_publish_the_cpu_they_use(cloud: ApiCloud) -> None:
    """EC2 User Guide, "CloudWatch metrics that are available for your instances": percent of the type's vCPUs."""
    one, two = cloud.run(), cloud.run(InstanceType="t2.medium")
    cloud.minutes(2, **{one: 50.0, two: 80.0})
    points = statistics(cloud, "InstanceId", one)
    assert [(p["Timestamp"], p["Average"], p["Unit"]) for p in points] == [
        (at(1000), pytest.approx(50), "Percent"),
        (at(1060), pytest.approx(50), "Percent"),
    ]
    assert [p["Average"] for p in statistics(cloud, "InstanceId", two)] == [pytest.approx(40)] * 2


def test_more_than_its_type_has_is_all_of_it(cloud: ApiCloud) -> None:
    """A container may use the machine's other cores; CPUUtilization ends at 100."""
    one = cloud.run()
    cloud.minutes(1, 170.0)
    assert statistics(cloud, "InstanceId", one)[0]["Average"] == 100


def test_stopped_and_restarted_instances(cloud: ApiCloud) -> None:
    """EC2 publishes nothing for an instance that does not run; a container's count begins anew with it."""
    one = cloud.run()
    cloud.minutes(1, 60.0)
    cloud.ec2.stop_instances(InstanceIds=[one])
    cloud.minutes(2)
    cloud.cpu[one] = 0.0
    cloud.ec2.start_instances(InstanceIds=[one])
    cloud.minutes(2, 30.0)
    cloud.cpu[one] = 0.0
    cloud.minutes(1, 20.0)
    found = {p["Timestamp"]: p["Average"] for p in statistics(cloud, "InstanceId", one)}
    assert list(found) == [at(1000), at(1240)]


def test_group_has_its_members_data(cloud: ApiCloud) -> None:
    """Auto Scaling API Reference, "CreateAutoScalingGroup": DefaultInstanceWarmup keeps new instances' data out."""
    cloud.group(DesiredCapacity=2, DefaultInstanceWarmup=90)
    one, two = cloud.members()
    cloud.minutes(3, **{one: 20.0, two: 40.0})
    points = statistics(cloud, "AutoScalingGroupName", "fleet")
    assert [(p["Average"], p["SampleCount"]) for p in points] == [(pytest.approx(30), 2)] * len(points)
    assert points[0]["Timestamp"] == at(1060)


def test_dimensions_are_not_added_up(cloud: ApiCloud) -> None:
    """CloudWatch User Guide, "Dimensions": each combination is a metric of its own (moto mixes what it finds)."""
    cloud.run()
    cloud.minutes(1, 10.0)
    asked = {"Namespace": "AWS/EC2", "MetricName": "CPUUtilization", "StartTime": at(0), "EndTime": at(2000)}
    assert cloud.watch.get_metric_statistics(**asked, Period=60, Statistics=["Sum"])["Datapoints"] == []


def test_periods_are_aligned(cloud: ApiCloud) -> None:
    """API Reference, "GetMetricStatistics": periods begin at multiples of their length (moto: at the first value)."""
    one = cloud.run()
    cloud.minutes(8, 10.0)
    points = statistics(cloud, "InstanceId", one, Period=300, Statistics=["Sum", "Maximum"])
    offset = (EPOCH + 1000) % 300
    assert [p["Timestamp"] for p in points] == [at(1000 - offset), at(1300 - offset)]
    assert sum(p["Sum"] for p in points) == pytest.approx(80)


def test_get_metric_data(cloud: ApiCloud) -> None:
    """API Reference, "GetMetricData": the newest first; "ReturnData" leaves a query out."""
    one = cloud.run()
    cloud.minutes(1, 10.0)
    cloud.minutes(1, 20.0)
    stat = {
        "Metric": {
            "Namespace": "AWS/EC2",
            "MetricName": "CPUUtilization",
            "Dimensions": [{"Name": "InstanceId", "Value": one}],
        },
        "Period": 60,
        "Stat": "Average",
    }
    queries = [{"Id": "a", "MetricStat": stat}, {"Id": "b", "MetricStat": stat, "ReturnData": False}]
    asked = {"MetricDataQueries": queries, "StartTime": at(1000), "EndTime": at(1120)}
    (told,) = cloud.watch.get_metric_data(**asked)["MetricDataResults"]
    assert (told["Id"], told["StatusCode"]) == ("a", "Complete")
    assert told["Values"] == [pytest.approx(20), pytest.approx(10)]
    assert told["Timestamps"] == [at(1060), at(1000)]
    (told,) = cloud.watch.get_metric_data(**asked, ScanBy="TimestampAscending")["MetricDataResults"]
    assert told["Values"] == [pytest.approx(10), pytest.approx(20)]
    math = [{"Id": "a", "Expression": "1 + 1", "Period": 60}]
    assert refused(lambda: cloud.watch.get_metric_data(**{**asked, "MetricDataQueries": math})) == (
        "UnsupportedOperation"
    )


def test_list_metrics(cloud: ApiCloud) -> None:
    """API Reference, "ListMetrics": what has data points."""
    one = cloud.run()
    assert cloud.watch.list_metrics()["Metrics"] == []
    cloud.minutes(1)
    dimension = {"Name": "InstanceId", "Value": one}
    (told,) = cloud.watch.list_metrics(Namespace="AWS/EC2", Dimensions=[{"Name": "InstanceId"}])["Metrics"]
    assert (told["MetricName"], told["Dimensions"]) == ("CPUUtilization", [dimension])
    assert cloud.watch.list_metrics(Namespace="AWS/ELB")["Metrics"] == []


def test_old_data_is_forgotten(cloud: ApiCloud) -> None:
    one = cloud.run()
    cloud.minutes(1)
    cloud.ec2.terminate_instances(InstanceIds=[one])
    cloud.now += timedelta(days=2).total_seconds()
    cloud.minutes(1)
    assert cloud.watch.list_metrics()["Metrics"] == []


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"ExtendedStatistics": ["p90"]}, "UnsupportedOperation"),
        ({"Period": 45}, "InvalidParameterValue"),
        ({"StartTime": at(2000)}, "InvalidParameterValue"),
        ({"StartTime": at(-200_000), "EndTime": at(1000)}, "InvalidParameterCombination"),
    ],
)
def test_wrong_questions_are_refused(cloud: ApiCloud, parameters: dict[str, Any], code: str) -> None:
    """API Reference, "GetMetricStatistics"."""
    assert refused(lambda: statistics(cloud, "InstanceId", "i-1", **parameters)) == code
