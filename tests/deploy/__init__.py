"""What `deploy/` holds is given to the real thing."""
