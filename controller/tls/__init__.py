"""TLS of the connections to switches: files, certificates, sockets, allowed peers. No OpenFlow or OVSDB in it."""
