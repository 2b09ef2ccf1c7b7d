"""What `make install` promises."""
