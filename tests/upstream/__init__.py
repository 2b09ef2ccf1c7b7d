"""The suites of Kubernetes and of network-policy-api, run against a cluster of `make cluster` as they judge any plugin.

`build` makes their programs from published Go modules, `python -m tests.upstream` runs them. Our own specs are in
`tests/cluster`.
"""
