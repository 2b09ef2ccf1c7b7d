"""Several replicas of the controller."""
