"""Tests of `controller.status`."""
