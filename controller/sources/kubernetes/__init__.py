"""A Kubernetes API server as a source."""
