"""The status of a running controller: its JSON contract, and how it is read from the reconciler."""
