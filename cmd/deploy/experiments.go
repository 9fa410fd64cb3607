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

// experimentState is what a deployment reads of an Experiment, whichever release has written it.
type experimentState struct {
	Metadata struct{ Name string }
	Spec     struct {
		Services  []string
		Treatment struct{ Env map[string]string }
	}
	Status struct {
		Phase      experiment.Phase
		Conclusion experiment.Conclusion
		Bases      []struct{ Revision string } // what the arms are copies of
		Assign     struct {
			Services []struct{ Control, Treatment struct{ Revision string } } // the arms, once they answer
		}
		Given map[string]int64 // the Services that a promotion has given the treatment so far
		// Services were in the status until arms had Configurations of their own: the traffic of each Service was the
		// experiment's then.
		Services []struct{ Traffic json.RawMessage }
	}
}

// readExperiments reads those of the namespace. A cluster that does not know the resource has none.
func (d *deployment) readExperiments(ctx context.Context) ([]experimentState, error) {
	var list struct{ Items []experimentState }
	err := unlessNotFound(d.cluster.List(ctx, &list, "warble.dev/v1alpha1/experiments", ""))
	return list.Items, err
}

// refuseExperiments refuses to deploy over what an earlier release has started, and to take from everyone what an experiment has
// promoted.
func (d *deployment) refuseExperiments(ctx context.Context) error {
	all, err := d.readExperiments(ctx)
	if err != nil {
		return err
	}
	var mistakes []error
	for _, x := range all {
		if x.earlier() {
			mistakes = append(mistakes, fmt.Errorf(
				"the experiment %s is %s, and an earlier release started it: end it with that release first (kn experiment promote, rollback or stop %s)",
				x.Metadata.Name, x.Status.Phase, x.Metadata.Name))
			continue
		}
		for _, f := range d.functions {
			if x.promoted(f.Name()) {
				mistakes = append(mistakes, x.missing(f, filepath.Join(d.folder, "500-"+f.Name()+".yaml")))
			}
		}
	}
	return errors.Join(mistakes...)
}

// earlier tells whether the experiment is live by the rules of an earlier release, whose arms were tags on the Service's own
// Route: only that release can end it.
func (x *experimentState) earlier() bool {
	withTraffic := slices.ContainsFunc(x.Status.Services, func(s struct{ Traffic json.RawMessage }) bool { return s.Traffic != nil })
	return x.Status.Phase == "Concluding" || x.Status.Phase.Live() && withTraffic
}

// promoted tells whether a Service has the treatment by a promotion, which may not be over yet. An archived experiment no
// longer says.
func (x *experimentState) promoted(service string) bool {
	_, given := x.Status.Given[service]
	return slices.Contains(x.Spec.Services, service) &&
		(x.Status.Phase == experiment.Promoting && given || x.Status.Phase == experiment.Concluded && x.Status.Conclusion == experiment.WasPromoted)
}

// missing says which variables of a treatment that was promoted the manifest of a function lacks.
func (x *experimentState) missing(f *manifest.Service, file string) error {
	has := make(map[string]string)
	for _, variable := range f.Container().Env {
		has[variable.Name] = variable.Value
	}
	name := x.Metadata.Name
	var mistakes []error
	for _, variable := range slices.Sorted(maps.Keys(x.Spec.Treatment.Env)) {
		if want := x.Spec.Treatment.Env[variable]; has[variable] != want {
			mistakes = append(mistakes, fmt.Errorf("%s: %s is %q, and the experiment %s was promoted: expected %q, or everyone loses it: kn experiment promote %s --write, or archive %s",
				file, variable, has[variable], name, want, name, name))
		}
	}
	return errors.Join(mistakes...)
}

// mentionArms says which experiments have arms that were made of an earlier revision of what was deployed.
func (d *deployment) mentionArms(ctx context.Context) error {
	all, err := d.readExperiments(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		name := x.Metadata.Name
		rebases := x.Status.Phase == experiment.Warming || x.Status.Phase.Runs()
		deployed := slices.ContainsFunc(d.functions, func(f *manifest.Service) bool { return slices.Contains(x.Spec.Services, f.Name()) })
		if rebases && deployed {
			d.say("experiment %s: its arms stay as they are; kn experiment rebase %s makes them of what was deployed now", name, name)
		}
	}
	return nil
}
