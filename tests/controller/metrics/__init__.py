"""Tests of `controller.metrics`."""
