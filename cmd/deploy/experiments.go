package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"warble/shared/experiment"
	"warble/shared/manifest"
)

// trial is what a deployment reads of an Experiment.
type trial struct {
	Metadata struct{ Name string }
	Spec     experiment.Spec
	Status   struct{ Phase, Conclusion string }
}

// there are the experiments of the cluster, of which one that knows no such resource has none.
func (d *deployment) there(ctx context.Context) ([]trial, error) {
	if kinds, err := d.kubectl.kinds(ctx, "warble.dev/v1alpha1"); err != nil || !slices.Contains(kinds, "Experiment") {
		return nil, err
	}
	var list struct{ Items []trial }
	err := d.kubectl.get(ctx, &list, "experiments.warble.dev")
	return list.Items, err
}

// live tells whether Services have arms.
func (t *trial) live() bool {
	return !slices.Contains([]string{"", "Draft", "Concluded", "Archived"}, t.Status.Phase)
}

// untried leaves out the Services that a live experiment has. Their templates are an arm's and name its revision, and
// Knative refuses any other template of that name: it would be refused for that, and not for the experiment.
func (d *deployment) untried(ctx context.Context, objects []*object) ([]*object, error) {
	trials, err := d.there(ctx)
	return slices.DeleteFunc(slices.Clone(objects), func(o *object) bool {
		return o.Kind == "Service" && slices.ContainsFunc(trials, func(t trial) bool {
			return t.live() && slices.Contains(t.Spec.Services, o.Metadata.Name)
		})
	}), err
}

// experiments refuses to deploy what an experiment is about. While it runs, a new revision would be in neither arm, unless
// both arms are to be re-based on it; once it was promoted, a manifest without what has won would take that from everyone.
func (d *deployment) experiments(ctx context.Context) error {
	trials, err := d.there(ctx)
	if err != nil {
		return err
	}
	var mistakes []error
	for _, t := range trials {
		for _, f := range d.functions {
			if !slices.Contains(t.Spec.Services, f.Name()) {
				continue
			}
			if d.rebase && slices.Contains([]string{"Running", "Paused"}, t.Status.Phase) {
				d.trials[f.Name()] = t.Metadata.Name
			} else {
				mistakes = append(mistakes, t.refuses(f, filepath.Join(d.folder, "500-"+f.Name()+".yaml")))
			}
		}
	}
	return errors.Join(mistakes...)
}

func (t *trial) refuses(f *manifest.Service, file string) error {
	name := t.Metadata.Name
	if t.live() {
		return fmt.Errorf("%s: the experiment %s is %s, and %s is in it: expected it to end before (kn experiment promote, rollback or stop %s), or, once it runs, REBASE=1, which moves both arms to the new image",
			file, name, t.Status.Phase, f.Name(), name)
	}
	if t.Status.Phase != "Concluded" || t.Status.Conclusion != "promoted" {
		return nil
	}
	has := make(map[string]string)
	for _, variable := range f.Container().Env {
		has[variable.Name] = variable.Value
	}
	var mistakes []error
	for _, variable := range slices.Sorted(maps.Keys(t.Spec.Treatment.Env)) {
		if want := string(t.Spec.Treatment.Env[variable]); has[variable] != want {
			mistakes = append(mistakes, fmt.Errorf("%s: %s is %q, and the experiment %s was promoted: expected %q, or everyone loses it: kn experiment promote %s --write, or archive %s",
				file, variable, has[variable], name, want, name, name))
		}
	}
	return errors.Join(mistakes...)
}

// rebaseArms has the experiments of d.trials move both arms to the images that were built, and returns the objects that
// are to be applied nonetheless: the Services in an experiment stay as that has them, to its end.
func (d *deployment) rebaseArms(ctx context.Context, objects []*object) ([]*object, error) {
	images := make(map[string]map[string]string) // of an experiment, by Service
	var rest []*object
	for _, o := range objects {
		name := d.trials[o.Metadata.Name]
		if o.Kind != "Service" || name == "" {
			rest = append(rest, o)
			continue
		}
		if images[name] == nil {
			images[name] = make(map[string]string)
		}
		images[name][o.Metadata.Name] = o.strings("image")[0]
	}
	for _, name := range slices.Sorted(maps.Keys(images)) {
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"run": map[string]any{"images": images[name]}}})
		if err != nil {
			return nil, err
		}
		if _, err := d.kubectl.run(ctx, nil, "patch", "experiments.warble.dev", name, "--type=merge", "--patch="+string(patch)); err != nil {
			return nil, err
		}
		d.say("experiment %s: both arms move to the new images within minutes: kn experiment status %s", name, name)
	}
	return rest, nil
}
