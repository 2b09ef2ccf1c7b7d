"""What this machine gives a lab: programs, processes, network namespaces and links."""
