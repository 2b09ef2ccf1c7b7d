"""End-to-end specs on a cluster with real kubelets: `make cluster-test`."""
