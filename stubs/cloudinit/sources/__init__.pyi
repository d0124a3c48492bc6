"""cloud-init's data sources."""

from collections.abc import Iterable

DEP_FILESYSTEM: str
DEP_NETWORK: str

class DataSource:
    """A source of metadata and user data."""

def list_from_depends(
    depends: Iterable[str], ds_list: Iterable[tuple[type[DataSource], tuple[str, ...]]]
) -> list[type[DataSource]]:
    """Choose the data sources whose dependencies are exactly these."""
