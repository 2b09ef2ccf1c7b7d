"""Scenarios as data: a topology, manifests that are applied and deleted step by step, and the expected reachability.

`model` has their schema and loads the YAML files of this folder, `check` runs one in a lab. Nothing here knows how
policies are enforced.
"""
