"""A node to call the CNI plugin on."""
