"""From untrusted JSON and YAML values to the values of `flows.cluster`; each error names its field by path."""
