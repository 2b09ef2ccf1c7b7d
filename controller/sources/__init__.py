"""Sources of Kubernetes objects, and the store that joins them into one cluster."""
