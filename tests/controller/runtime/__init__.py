"""Tests of `controller.runtime`, as far as it is not tested with the whole."""
