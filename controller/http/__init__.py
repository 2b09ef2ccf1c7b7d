"""The HTTP pages of a running controller. They change nothing."""
