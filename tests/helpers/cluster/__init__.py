"""Cluster objects for tests: written by hand, generated, broken, and the original API once more."""
