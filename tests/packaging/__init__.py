"""What `make install` and `make release` promise."""
