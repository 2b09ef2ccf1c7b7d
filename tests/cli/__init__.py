"""Tests of the command line, the configuration, HTTP, metrics and logs."""
