package rollout

import (
	"os"
	"strings"

	"k8s.io/client-go/rest"
)

// namespaceFile is where a pod reads which namespace it is in.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// InCluster is the Cluster of the namespace that this process's pod is in.
func InCluster(holder string) (*Knative, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	namespace, err := os.ReadFile(namespaceFile)
	if err != nil {
		return nil, err
	}
	return NewKnative(config, strings.TrimSpace(string(namespace)), holder, AskInside())
}
