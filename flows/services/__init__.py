"""Services: which endpoints a node's traffic to each of a Service's addresses goes to, kept as the objects change."""
