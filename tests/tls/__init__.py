"""TLS: certificates, who comes in with which, and rotation."""
