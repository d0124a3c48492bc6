"""What cloud-init needs to know about an instance that is a container."""
