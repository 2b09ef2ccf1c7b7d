// Command kube-apiserver runs the API server of the Kubernetes Go module.
package main

import (
	"os"
	_ "time/tzdata" // the machine may have no time zones

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	command := app.NewAPIServerCommand()
	os.Exit(cli.Run(command))
}
