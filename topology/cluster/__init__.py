"""Real kubelets on this machine: a control plane, nodes as namespaces, and Headgate as the only network."""
