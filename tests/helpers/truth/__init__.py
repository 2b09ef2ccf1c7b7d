"""The truth tables as data, and the cluster that they are about."""
