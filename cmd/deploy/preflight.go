package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"warble/shared/store"
)

// serving is the version of Knative Serving that Warble is tested with, as its CRDs are labelled.
const serving = "1.23"

// preflight finds what would stop a deployment before it begins: no kubectl, no cluster, no Knative, no database, and
// whatever the cluster itself has against the manifests.
func (d *deployment) preflight(ctx context.Context) error {
	if _, err := exec.LookPath("kubectl"); err != nil {
		return errors.New("kubectl is not in PATH: install it (https://kubernetes.io/docs/tasks/tools), or take the test cluster's")
	}
	name := "the current context"
	if output, err := d.kubectl.run(ctx, nil, "config", "current-context"); err == nil {
		name = "context " + strings.TrimSpace(string(output))
	}
	if _, err := d.kubectl.run(ctx, nil, "get", "--raw=/readyz"); err != nil {
		return fmt.Errorf("the cluster of %s does not answer: expected KUBECONFIG to name one that does: %w", name, err)
	}
	if err := d.knative(ctx, name); err != nil {
		return err
	}
	if err := d.kinds(ctx); err != nil {
		return err
	}
	if d.direct != nil {
		conn, err := store.Connect(ctx, d.direct.String(), 0)
		if err != nil {
			return fmt.Errorf("DATABASE_DIRECT_URL: %w", err)
		}
		if err := conn.Close(ctx); err != nil {
			return err
		}
	}
	var err error
	if d.held, err = d.kubectl.holdings(ctx); err != nil {
		return err
	}
	if err := d.needs(); err != nil {
		return err
	}
	return d.tryOut(ctx)
}

func (d *deployment) knative(ctx context.Context, cluster string) error {
	var crd struct {
		Metadata struct{ Labels map[string]string }
	}
	err := d.kubectl.get(ctx, &crd, "crd", "services.serving.knative.dev")
	if errors.Is(err, errNotFound) {
		return fmt.Errorf("the cluster of %s has no Knative Serving: install it (https://knative.dev/docs/install), %s at best, with an ingress", cluster, serving)
	} else if err != nil {
		return err
	}
	version := crd.Metadata.Labels["app.kubernetes.io/version"]
	switch {
	case strings.HasPrefix(strings.TrimPrefix(version, "v"), serving+"."):
		d.say("cluster: %s, Knative Serving %s", cluster, version)
	case version == "" || version == "devel":
		d.say("cluster: %s, Knative Serving of an unnamed version (tested with %s)", cluster, serving)
	default:
		d.say("cluster: %s, Knative Serving %s: tested with %s, so read its release notes if something is refused", cluster, version, serving)
	}
	return nil
}

// kinds asks whether the cluster knows every kind that the manifests use and do not define themselves.
func (d *deployment) kinds(ctx context.Context) error {
	known := make(map[string][]string) // apiVersion -> kinds
	for _, o := range d.objects {
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct{ Name string }
			}
		}
		if o.Kind != "CustomResourceDefinition" {
			continue
		}
		if err := o.node.Decode(&crd); err != nil {
			return fmt.Errorf("%s: %w", o.file, err)
		}
		for _, version := range crd.Spec.Versions {
			of := crd.Spec.Group + "/" + version.Name
			known[of] = append(known[of], crd.Spec.Names.Kind)
		}
	}
	var mistakes []error
	asked := make(map[string]bool)
	for _, o := range d.objects {
		if !strings.Contains(o.APIVersion, "/") {
			continue // of Kubernetes' own core, which every cluster has
		}
		if !asked[o.APIVersion] {
			kinds, err := d.kubectl.kinds(ctx, o.APIVersion)
			if err != nil {
				return err
			}
			known[o.APIVersion] = append(known[o.APIVersion], kinds...)
			asked[o.APIVersion] = true
		}
		if !slices.Contains(known[o.APIVersion], o.Kind) {
			mistakes = append(mistakes, fmt.Errorf("%s: the cluster knows no %s of %s: install what brings it", o.file, o.Kind, o.APIVersion))
		}
	}
	return errors.Join(mistakes...)
}

// needs asks for the secrets and config maps that pods mount and this command does not make.
func (d *deployment) needs() error {
	var mistakes []error
	for _, o := range d.objects {
		for _, r := range o.references() {
			made, ours := d.makes(r)
			if ours && made {
				continue
			}
			there := d.held[[2]string{r.kind, r.name}]
			switch _, key := there.value(r.key); {
			case there == nil && ours:
				mistakes = append(mistakes, fmt.Errorf("DATABASE_DIRECT_URL is not set, and the cluster has no secret %s: expected the URL of the database's owner, as postgres://owner:password@host:5432/warble", r.name))
			case there == nil:
				mistakes = append(mistakes, fmt.Errorf("%s: %s needs the %s %s, which the cluster does not have", o.file, o, r.kind, r.name))
			case r.key != "" && !key:
				mistakes = append(mistakes, fmt.Errorf("%s: %s needs the key %s of the %s %s, which has %s", o.file, o, r.key, r.kind, r.name, there.keys()))
			}
		}
	}
	return errors.Join(distinct(mistakes)...)
}

// distinct leaves out what has been said before.
func distinct(mistakes []error) []error {
	said := make(map[string]bool)
	return slices.DeleteFunc(mistakes, func(err error) bool {
		before := said[err.Error()]
		said[err.Error()] = true
		return before
	})
}

// tryOut has the cluster check every object, its admission webhooks included, as if it were applied. Only the namespace
// and the accounts are made, for Knative tries out a pod, which cannot be without them.
func (d *deployment) tryOut(ctx context.Context) error {
	var ground []*object
	for _, o := range d.objects {
		if o.Kind == "Namespace" || o.Kind == "ServiceAccount" {
			ground = append(ground, o)
		}
	}
	if err := d.kubectl.apply(ctx, ground); err != nil {
		return err
	}
	if d.beside { // what a Job says of earlier candidates ends with them, and a Job cannot be changed
		if err := d.removeJob(ctx); err != nil {
			return err
		}
	}
	text, err := encode(d.objects)
	if err != nil {
		return err
	}
	whole, err := parse(withoutScheme(text))
	if err != nil {
		return err
	}
	if d.kubectl.apply(ctx, whole, "--dry-run=server") == nil {
		return nil
	}
	var mistakes []error // the cluster does not say which document it refuses, so each is asked about alone
	for i, o := range whole {
		if err := d.kubectl.apply(ctx, []*object{o}, "--dry-run=server"); err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: the cluster refuses %s: %w", d.objects[i].file, o, err))
		}
	}
	return errors.Join(mistakes...)
}
