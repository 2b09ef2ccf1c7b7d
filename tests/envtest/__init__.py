"""A real Kubernetes control plane for tests: where its binaries are, and the Go module that they are built from."""
