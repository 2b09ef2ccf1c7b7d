"""OpenFlow 1.4 sessions with switches. This is the os-ken application."""
