package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"warble/shared/knative"
	"warble/shared/rollout"
)

// serving is the version of Knative Serving with which Warble is tested. Knative's CRDs have it as a label.
const serving = "1.23"

// preflight returns an error for everything that would stop a deployment, before the deployment begins: no cluster, no Knative, no database,
// missing secrets, and objects that the cluster refuses.
func (d *deployment) preflight(ctx context.Context, s settings, objects []*object) error {
	if err := d.findKnative(ctx); err != nil {
		return err
	}
	if s.direct != nil {
		conn, err := s.connect(ctx)
		if err != nil {
			return err
		}
		if err := conn.Close(ctx); err != nil {
			return err
		}
	}
	present, err := d.readHoldings(ctx)
	if err != nil {
		return err
	}
	if err := checkReferences(objects, present, s); err != nil {
		return err
	}
	return d.tryOut(ctx, objects)
}

// findKnative returns an error if the cluster has no Knative Serving, and prints its version otherwise.
func (d *deployment) findKnative(ctx context.Context) error {
	var crd struct {
		Metadata struct{ Labels map[string]string }
	}
	err := d.cluster.In("").Get(ctx, &crd, "apiextensions.k8s.io/v1/customresourcedefinitions", "services.serving.knative.dev")
	switch {
	case errors.Is(err, rollout.ErrNotFound):
		return fmt.Errorf("the cluster at %s has no Knative Serving: install it (https://knative.dev/docs/install), preferably version %s, with an ingress", d.address, serving)
	case errors.Is(err, knative.ErrUnreachable):
		return fmt.Errorf("the cluster does not answer: check KUBECONFIG: %w", err)
	case err != nil:
		return err
	}
	version := crd.Metadata.Labels["app.kubernetes.io/version"]
	switch {
	case strings.HasPrefix(strings.TrimPrefix(version, "v"), serving+"."):
		d.say("cluster: %s, Knative Serving %s", d.address, version)
	case version == "" || version == "devel":
		d.say("cluster: %s, Knative Serving of an unnamed version (tested with %s)", d.address, serving)
	default:
		d.say("cluster: %s, Knative Serving %s. Warble is tested with %s: if the cluster refuses something, read Knative's release notes", d.address, version, serving)
	}
	return nil
}

// checkReferences returns an error for each secret or config map that a pod needs, if it is missing and this command does not make it.
func checkReferences(objects []*object, all holdings, s settings) error {
	var mistakes []error
	for _, o := range objects {
		for _, r := range o.references() {
			ours := isOurs(r)
			if ours && (s.direct != nil || !strings.HasPrefix(r.name, databaseSecret)) {
				continue // makeSecrets makes it
			}
			present := all[[2]string{r.kind, r.name}]
			switch _, key := present.value(r.key); {
			case present == nil && ours:
				mistakes = append(mistakes, fmt.Errorf("DATABASE_DIRECT_URL is not set, and the cluster has no secret %s: expected the URL of the database's owner, such as postgres://owner:password@host:5432/warble", r.name))
			case present == nil:
				mistakes = append(mistakes, fmt.Errorf("%s: %s needs the %s %s, which the cluster does not have: create it first", o.file, o, r.kind, r.name))
			case r.key != "" && !key:
				mistakes = append(mistakes, fmt.Errorf("%s: %s needs the key %s of the %s %s, whose keys are: %s", o.file, o, r.key, r.kind, r.name, present.keys()))
			}
		}
	}
	return errors.Join(distinct(mistakes)...)
}

// distinct removes repeated mistakes.
func distinct(mistakes []error) []error {
	said := make(map[string]bool)
	return slices.DeleteFunc(mistakes, func(err error) bool {
		before := said[err.Error()]
		said[err.Error()] = true
		return before
	})
}

// tryOut lets the cluster check every object with a dry run, which includes its admission webhooks. Only the namespace and the accounts are
// really created, because Knative tries out a pod, which needs them.
func (d *deployment) tryOut(ctx context.Context, objects []*object) error {
	var ground []*object
	for _, o := range objects {
		if o.Kind == "Namespace" || o.Kind == "ServiceAccount" {
			ground = append(ground, o)
		}
	}
	if err := d.apply(ctx, ground); err != nil {
		return err
	}
	if slices.ContainsFunc(objects, func(o *object) bool { return o.file == candidateFile }) {
		// The result of an earlier candidate is no longer valid, and a Job cannot be changed.
		if err := d.removeCandidateJob(ctx); err != nil {
			return err
		}
	}
	var mistakes []error
	for _, o := range objects {
		text, err := encode([]*object{o})
		if err != nil {
			return err
		}
		try := func(force bool) error {
			return d.cluster.Apply(ctx, o.APIVersion, o.Kind, o.Metadata.Name, withoutScheme(text), force, true)
		}
		if err = try(false); errors.Is(err, rollout.ErrConflict) {
			d.say("%s: %s: this deployment takes over fields of another manager: %v", o.file, o, err)
			err = try(true)
		}
		if errors.Is(err, knative.ErrUnreachable) {
			return err
		}
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: the cluster refuses %s: %w", o.file, o, err))
		}
	}
	return errors.Join(mistakes...)
}
