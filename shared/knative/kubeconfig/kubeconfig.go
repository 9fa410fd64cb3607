// Package kubeconfig reaches a cluster as kubectl does. It is a package of its own because clientcmd is large, and the
// functions, which import warble/shared/knative, run inside the cluster and need none of it.
package kubeconfig

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Flags are kubectl's. Empty ones are kubectl's defaults.
type Flags struct {
	File      string // --kubeconfig; else the files of KUBECONFIG, else ~/.kube/config, else the service account of this pod
	Context   string // --context; else the current context of the file
	As        string // --as: the user to impersonate
	Namespace string // --namespace; else that of the context
}

// ErrNoCluster is returned if no file names a cluster, and this is no pod.
var ErrNoCluster = errors.New("no cluster")

// Load returns how the cluster is reached, and the namespace that the flag or else the context names. namespace is empty if
// neither names one: kubectl would take "default", and a caller may know better. Errors: ErrNoCluster, and what is wrong
// with the file.
func Load(f Flags) (config *rest.Config, namespace string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.File
	rules.WarnIfAllMissing = false // the error below says so
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.Context})
	config, err = loaded.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, "", fmt.Errorf("%w: %s", ErrNoCluster, f.missing())
	case err != nil:
		return nil, "", err
	}
	if f.As != "" { // not by an override, which clientcmd ignores in a pod
		config.Impersonate.UserName = f.As
	}
	if f.Namespace != "" {
		return config, f.Namespace, nil
	}
	raw, err := loaded.RawConfig()
	if err != nil {
		return nil, "", err
	}
	if context := raw.Contexts[cmp.Or(f.Context, raw.CurrentContext)]; context != nil && context.Namespace != "" {
		return config, context.Namespace, nil
	}
	namespace, _, err = loaded.Namespace() // that of the pod, where this is one
	if namespace == "default" {            // clientcmd's own, which nobody has named
		namespace = ""
	}
	return config, namespace, err
}

// missing says where a cluster was looked for.
func (f Flags) missing() string {
	const expected = "expected the file by which kubectl reaches the cluster"
	switch path := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); {
	case f.File != "":
		return fmt.Sprintf("%s names none: %s", f.File, expected)
	case path != "":
		return fmt.Sprintf("KUBECONFIG is %s, which names none or is not there: %s", path, expected)
	}
	return "KUBECONFIG is not set, and there is no ~/.kube/config: " + expected
}
