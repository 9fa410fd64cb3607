//go:build e2e

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"warble/shared/process"
)

const (
	adminToken = "admin"
	edgeToken  = "edge"
)

// TestWatchOnKubernetes is the journey of TestWatch on a real API server, with Knative's own definitions and the edge's own role.
// Nothing else of a cluster runs. kube-apiserver is the binary that make cluster builds, in $CLUSTER_DIR/bin.
func TestWatchOnKubernetes(t *testing.T) {
	t.Parallel()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	folder := os.Getenv("CLUSTER_DIR")
	if folder == "" {
		folder = filepath.Join(home, ".cache", "warble-cluster")
	}
	k := &kubernetes{bin: filepath.Join(folder, "bin", "kube-apiserver"), folder: t.TempDir(), etcd: freeAddress(t), address: freeAddress(t)}
	if _, err := os.Stat(k.bin); err != nil {
		t.Fatalf("no API server, which make cluster builds: %v", err)
	}
	k.prepare(t)
	k.run(t, "etcd", "--data-dir="+filepath.Join(k.folder, "etcd"), "--listen-client-urls=http://"+k.etcd, "--advertise-client-urls=http://"+k.etcd,
		"--listen-peer-urls=http://"+freeAddress(t))
	k.start(t)

	knative := filepath.Join(module(t, "knative.dev/serving"), "config", "core", "300-resources")
	k.apply(t, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", filepath.Join(knative, "service.yaml"), filepath.Join(knative, "revision.yaml"))
	k.apply(t, "/api/v1/namespaces", "../../knative/100-namespace.yaml")
	k.apply(t, "", "../../knative/200-edge.yaml")
	eventually(t, "Knative's definitions are served", func() bool {
		return k.get(t, "/apis/serving.knative.dev/v1/namespaces/warble/services") == http.StatusOK &&
			k.get(t, "/apis/serving.knative.dev/v1/namespaces/warble/revisions") == http.StatusOK
	})
	watchJourney(t, api{k.config(adminToken), k.config(edgeToken), k.stop, k.start})
}

// kubernetes is an API server and its etcd.
type kubernetes struct {
	bin, folder, etcd, address string

	server *exec.Cmd
	exited <-chan error
}

// prepare writes the API server's users and its signing key.
func (k *kubernetes) prepare(t *testing.T) {
	t.Helper()
	tokens := adminToken + ",admin,1,system:masters\n" + edgeToken + ",system:serviceaccount:" + ns + ":edge,2,system:serviceaccounts\n"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"tokens.csv": []byte(tokens),
		"key.pem":    pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
	} {
		if err := os.WriteFile(filepath.Join(k.folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (k *kubernetes) start(t *testing.T) {
	t.Helper()
	host, port, _ := net.SplitHostPort(k.address)
	key := filepath.Join(k.folder, "key.pem")
	k.server, k.exited = k.run(t, k.bin, "--etcd-servers=http://"+k.etcd, "--bind-address="+host, "--secure-port="+port, "--cert-dir="+k.folder,
		"--token-auth-file="+filepath.Join(k.folder, "tokens.csv"), "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.test", "--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none")
	eventually(t, "the API server is ready", func() bool { return k.get(t, "/readyz") == http.StatusOK })
}

func (k *kubernetes) stop(t *testing.T) {
	t.Helper()
	if err := k.server.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-k.exited
}

// run starts a process that ends with the test. If the test fails, the test's log contains the process's log.
func (k *kubernetes) run(t *testing.T, name string, arguments ...string) (*exec.Cmd, <-chan error) {
	t.Helper()
	cmd := exec.Command(name, arguments...)
	log := new(journal)
	cmd.Stdout, cmd.Stderr = log, log
	exited, err := process.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { defer close(ended); ended <- <-exited }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		if t.Failed() {
			text := log.String()
			t.Logf("%s:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return cmd, ended
}

func (k *kubernetes) config(token string) *rest.Config {
	return &rest.Config{Host: "https://" + k.address, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: 100, Burst: 100}
}

// apply creates the objects of manifests in a collection. If collection is empty, it finds the collection of each object.
func (k *kubernetes) apply(t *testing.T, collection string, files ...string) {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			at := collection
			if at == "" {
				at = collectionOf(t, document)
			}
			object, err := yaml.YAMLToJSON(document)
			if err != nil {
				t.Fatal(err)
			}
			if status, answer := k.send(t, http.MethodPost, at, bytes.NewReader(object)); status != http.StatusCreated {
				t.Fatalf("%s: %d %s", file, status, answer)
			}
		}
	}
}

func collectionOf(t *testing.T, document []byte) string {
	t.Helper()
	var o struct{ Kind, APIVersion string }
	if err := yaml.Unmarshal(document, &o); err != nil {
		t.Fatal(err)
	}
	group := "/apis/" + o.APIVersion
	if o.APIVersion == "v1" {
		group = "/api/v1"
	}
	return fmt.Sprintf("%s/namespaces/%s/%ss", group, ns, strings.ToLower(o.Kind))
}

func (k *kubernetes) get(t *testing.T, path string) (status int) {
	status, _ = k.send(t, http.MethodGet, path, nil)
	return status
}

// send sends a request to the API server. status is 0 if nobody answers.
func (k *kubernetes) send(t *testing.T, method, path string, body io.Reader) (status int, answer string) {
	t.Helper()
	client, err := rest.HTTPClientFor(k.config(adminToken))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "https://"+k.address+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

// module returns the folder of a module that this module requires.
func module(t *testing.T, path string) string {
	t.Helper()
	folder, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(folder))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
