"""The objects of a cluster as immutable values. Nothing here parses input or decides what a policy means."""
