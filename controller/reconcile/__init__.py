"""Reconciliation without input or output: an event and the time go in, commands come out."""
