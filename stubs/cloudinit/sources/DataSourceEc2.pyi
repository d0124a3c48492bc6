"""cloud-init's Ec2 data source."""

from cloudinit.sources import DataSource

class CloudNames:
    """The platforms it knows."""

    AWS: str

class DataSourceEc2(DataSource):
    """The data source."""

    def _get_cloud_name(self) -> str: ...
