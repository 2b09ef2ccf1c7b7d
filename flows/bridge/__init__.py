"""Which pod is behind which port of a bridge, from what its OVSDB says."""
