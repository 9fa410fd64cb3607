package knative

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// Ask requests a page from an arm's host, which only the cluster can resolve, and returns the revision that answered. For example,
// the treatment of validate in the experiment likes, in the namespace warble, has the host
// treatment-likes-validate.warble.svc.cluster.local.
type Ask func(ctx context.Context, host string) (revision string, err error)

// askTimeout is longer than a pod takes to start from zero.
const askTimeout = 15 * time.Second

// AskInside returns an Ask for a process in a pod, which can resolve the host.
func AskInside() Ask {
	return func(ctx context.Context, host string) (string, error) {
		return ask(ctx, http.DefaultClient, &url.URL{Scheme: "http", Host: host, Path: "/"}, "")
	}
}

// AskFromOutside returns an Ask that sends the request through the API server's proxy to the ingress behind the arm's host, like
// `kubectl get --raw`. Without the right to do this, it returns an error; steer asks from inside within a minute.
func AskFromOutside(config *rest.Config) (Ask, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	core, err := Client(config, client, corev1.SchemeGroupVersion, corev1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, host string) (string, error) {
		name, rest, _ := strings.Cut(host, ".")
		namespace, _, _ := strings.Cut(rest, ".")
		var s corev1.Service
		if err := core.Get().Namespace(namespace).Resource("services").Name(name).Do(ctx).Into(&s); err != nil {
			return "", failure(err)
		}
		ingress := strings.Split(s.Spec.ExternalName, ".")
		if len(ingress) < 3 || ingress[2] != "svc" {
			return "", fmt.Errorf("%s cannot be reached from here: its Service has the external name %q, not that of an ingress", host, s.Spec.ExternalName)
		}
		through := core.Get().Namespace(ingress[1]).Resource("services").Name("http:" + net.JoinHostPort(ingress[0], "80")).SubResource("proxy").URL()
		through.Path += "/" // otherwise the API server redirects there
		return ask(ctx, client, through, host)
	}, nil
}

func ask(ctx context.Context, client *http.Client, at *url.URL, host string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return "", err
	}
	request.Host = host
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // as much was read as is needed
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	// At any status, only a function's answer names a revision. A proxy's answer does not.
	if revision := response.Header.Get("X-Revision"); revision != "" {
		return revision, nil
	}
	return "", fmt.Errorf("%s answers %d and names no revision", at.Host, response.StatusCode)
}
