"""Tests of the audit of connections: from a packet-in to an event, a file, an HTTP stream and a line of a command."""
