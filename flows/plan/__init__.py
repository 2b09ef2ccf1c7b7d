"""The desired flows of every bridge, kept as the cluster and the bridges change."""
