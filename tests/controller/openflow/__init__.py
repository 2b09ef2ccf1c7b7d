"""Tests of `controller.openflow`."""
