"""Tests of `controller.sources`."""
