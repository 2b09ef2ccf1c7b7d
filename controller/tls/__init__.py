"""TLS of the channels to switches: our own files, who may connect, and the bytes on a socket. No protocol within it."""
