"""Scenarios: a topology, manifests that come and go step by step, and who must reach whom after each step, as data.

`model` is their schema and the reading of the files beside it, `check` runs one in a lab. What a scenario is about
stands in its file. Nothing here knows how policy is enforced.
"""
