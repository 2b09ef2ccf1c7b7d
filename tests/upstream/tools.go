//go:build tools

package tools

import _ "github.com/onsi/ginkgo/v2/ginkgo"
