"""The reconciler, driven by values."""
