"""What a lab uses of this machine: programs, processes, network namespaces and links."""
