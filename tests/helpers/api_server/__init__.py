"""A kube-apiserver with its etcd for tests."""
