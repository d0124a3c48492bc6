"""cloud-init's Ec2 data source, on a machine that has no hypervisor to tell that it is on AWS.

Everything but the identification is cloud-init's own code: session tokens (IMDSv2), user data, keys.
cloud-init finds this module by its name (`datasource_list` and `datasource_pkg_list` in /etc/cloud).
"""

from __future__ import annotations

from cloudinit import sources
from cloudinit.sources.DataSourceEc2 import CloudNames, DataSourceEc2


class DataSourceEc2Localcloud(DataSourceEc2):
    """The Ec2 data source with the platform taken for granted."""

    def _get_cloud_name(self) -> str:
        return CloudNames.AWS


def get_datasource_list(depends: list[str]) -> list[type[sources.DataSource]]:
    """Return the data sources for a boot stage.

    Args:
        depends: what the stage can offer.

    Returns:
        This one in the network stage, none before.
    """
    offered = [(DataSourceEc2Localcloud, (sources.DEP_FILESYSTEM, sources.DEP_NETWORK))]
    return sources.list_from_depends(depends, offered)
