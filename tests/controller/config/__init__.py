"""Tests of `controller.config`."""
