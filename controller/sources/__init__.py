"""Sources of Kubernetes objects, and the store in which they become one world."""
