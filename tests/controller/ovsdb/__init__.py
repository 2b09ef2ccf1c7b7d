"""Tests of `controller.ovsdb`."""
