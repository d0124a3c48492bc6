"""What the service's tests share: real servers, and a browser."""
