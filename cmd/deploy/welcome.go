package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// welcome prints the API's URL and a command to try, after it has made the same request. ingress is the public ingress of the settings, or
// empty.
func (d *deployment) welcome(ctx context.Context, ingress string) error {
	states, err := d.states(ctx)
	if err != nil {
		return err
	}
	public, err := url.Parse(states["edge"].Status.URL)
	if err != nil || public.Host == "" {
		return fmt.Errorf("the Service edge is ready, but its URL is %q: expected http://host", states["edge"].Status.URL)
	}
	candidates := append([]string{public.String()}, d.gateways(ctx, ingress)...)
	for deadline := time.Now().Add(20 * time.Second); ; {
		for _, base := range candidates {
			if answers(ctx, base, public.Host) {
				d.say("\nWarble is at %s. Try:\n\n  %s", public, curl(base, public))
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("every function is ready, but from this machine neither %s nor the ingress at %s answers: set INGRESS_ADDRESS to its host:port", public, strings.Join(candidates[1:], ", "))
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func curl(base string, public *url.URL) string {
	if base == public.String() {
		return "curl -s " + base + "/communities"
	}
	return "curl -s -H 'Host: " + public.Host + "' " + base + "/communities"
}

// answers reports whether the edge answers at base.
func answers(ctx context.Context, base, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/healthz", nil)
	if err != nil {
		return false
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// gateways returns URLs at which the public ingress may answer if the host's name does not lead to it: the ingress of the settings, or the
// addresses of the Kubernetes Service that Knative's Ingress names.
func (d *deployment) gateways(ctx context.Context, ingress string) []string {
	if ingress != "" {
		return []string{"http://" + ingress}
	}
	type address struct{ IP, Hostname, DomainInternal string }
	var route struct {
		Status struct {
			PublicLoadBalancer struct{ Ingress []address }
		}
	}
	if err := d.cluster.Get(ctx, &route, "networking.internal.knative.dev/v1alpha1/ingresses", "edge"); err != nil {
		return nil
	}
	var found []string
	for _, one := range route.Status.PublicLoadBalancer.Ingress {
		name, rest, _ := strings.Cut(one.DomainInternal, ".")
		namespace, _, _ := strings.Cut(rest, ".")
		var gateway struct {
			Spec struct {
				ClusterIP   string
				ExternalIPs []string
			}
			Status struct {
				LoadBalancer struct{ Ingress []address }
			}
		}
		if err := d.cluster.In(namespace).Get(ctx, &gateway, coreServices, name); err != nil {
			continue
		}
		addresses := append(gateway.Status.LoadBalancer.Ingress, one)
		for _, ip := range append(gateway.Spec.ExternalIPs, gateway.Spec.ClusterIP) {
			addresses = append(addresses, address{IP: ip})
		}
		for _, a := range addresses {
			if host := a.IP + a.Hostname; host != "" && host != "None" {
				found = append(found, "http://"+host)
			}
		}
	}
	return found
}
