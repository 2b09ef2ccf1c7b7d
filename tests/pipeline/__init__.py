"""Flows as values and tables: layout, rendering, the pipeline's declaration."""
