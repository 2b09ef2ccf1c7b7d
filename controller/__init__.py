"""The shell around the core: sources, OVSDB, OpenFlow, HTTP and the commands."""
