package main

import clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"

const (
	// kubeconfig is the file of the state folder by which `kn experiment` reaches the control plane.
	kubeconfig = "kubeconfig"
	// controlFolder is the folder of its token, certificate and address, which outlive a run, and -fresh too: a shell that has
	// KUBECONFIG set goes on working.
	controlFolder = "warble-control"
)

// writeKubeconfig writes how the control plane is reached. The file is JSON, which every reader of YAML reads.
func writeKubeconfig(s state, address, token string, authority []byte) error {
	const name = "warble-local"
	return replaceFile(s.path(kubeconfig), clientcmd.Config{
		APIVersion: "v1", Kind: "Config", CurrentContext: name,
		Clusters:  []clientcmd.NamedCluster{{Name: name, Cluster: clientcmd.Cluster{Server: "https://" + address, CertificateAuthorityData: authority}}},
		AuthInfos: []clientcmd.NamedAuthInfo{{Name: name, AuthInfo: clientcmd.AuthInfo{Token: token}}},
		Contexts:  []clientcmd.NamedContext{{Name: name, Context: clientcmd.Context{Cluster: name, AuthInfo: name, Namespace: namespace}}},
	})
}
