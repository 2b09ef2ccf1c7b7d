"""From untrusted JSON and YAML values to the values of `cluster`, with every error told by its path."""
