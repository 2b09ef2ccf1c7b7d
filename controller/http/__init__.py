"""The HTTP pages of a running controller. They only read."""
