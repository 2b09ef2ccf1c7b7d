"""Tests of `controller.base`."""
