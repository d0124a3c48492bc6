"""What localcloud/guest uses of cloud-init, which is not on PyPI and publishes no types."""
