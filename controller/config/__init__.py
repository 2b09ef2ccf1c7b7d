"""The options of `headgate run`: their schema, where they come from, and how addresses are written."""
