//go:build tools

// Package tools pins the suite of network-policy-api, which is built in its own module.
package tools

import _ "sigs.k8s.io/network-policy-api/conformance"
