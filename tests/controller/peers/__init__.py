"""Tests of `controller.peers`."""
