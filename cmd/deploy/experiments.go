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

// experimentState is the part of an Experiment that a deployment reads. It also fits Experiments of earlier releases.
type experimentState struct {
	Metadata struct{ Name string }
	Spec     struct {
		Services  []string
		Treatment struct{ Env map[string]string }
	}
	Status struct {
		Phase      experiment.Phase
		Conclusion experiment.Conclusion
		Bases      []struct{ Revision string } // from which the arms are copied
		Assign     struct {
			Services []struct{ Control, Treatment struct{ Revision string } } // the arms, when they answer
		}
		Treated map[string]int64 `json:"given"` // the Services to which a promotion has given the treatment so far
		// Services is written only by earlier releases, in which the experiment changed each Service's traffic.
		Services []struct{ Traffic json.RawMessage }
	}
}

// readExperiments reads the namespace's experiments. It returns none if the cluster does not have the resource.
func (d *deployment) readExperiments(ctx context.Context) ([]experimentState, error) {
	var list struct{ Items []experimentState }
	err := unlessNotFound(d.cluster.List(ctx, &list, "warble.dev/v1alpha1/experiments", ""))
	return list.Items, err
}

// refuseExperiments returns an error if a live experiment was started by an earlier release, or if the deployment would remove a promoted
// treatment.
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

// earlier reports whether the experiment is live and was started by an earlier release, in which arms were tags on the Service's own Route. Only
// that release can end it.
func (x *experimentState) earlier() bool {
	withTraffic := slices.ContainsFunc(x.Status.Services, func(s struct{ Traffic json.RawMessage }) bool { return s.Traffic != nil })
	return x.Status.Phase == "Concluding" || x.Status.Phase.Live() && withTraffic
}

// promoted reports whether a promotion has given the treatment to a Service, even if the promotion is not complete. For an archived
// experiment it returns false.
func (x *experimentState) promoted(service string) bool {
	_, treated := x.Status.Treated[service]
	return slices.Contains(x.Spec.Services, service) &&
		(x.Status.Phase == experiment.Promoting && treated || x.Status.Phase == experiment.Concluded && x.Status.Conclusion == experiment.WasPromoted)
}

// missing returns an error for each variable of a promoted treatment that a function's manifest does not have.
func (x *experimentState) missing(f *manifest.Service, file string) error {
	has := make(map[string]string)
	for _, variable := range f.Container().Env {
		has[variable.Name] = variable.Value
	}
	name := x.Metadata.Name
	var mistakes []error
	for _, variable := range slices.Sorted(maps.Keys(x.Spec.Treatment.Env)) {
		if want := x.Spec.Treatment.Env[variable]; has[variable] != want {
			mistakes = append(mistakes, fmt.Errorf("%s: %s is %q: expected %q, because the experiment %s was promoted and everyone would lose the treatment. Write it into the manifest (kn experiment promote %s --write), or give it up (kn experiment archive %s)",
				file, variable, has[variable], want, name, name, name))
		}
	}
	return errors.Join(mistakes...)
}

// mentionArms prints the experiments whose arms are copies of revisions before this deployment.
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
			d.say("experiment %s: its arms still run the code from before this deployment. To copy them from it: kn experiment rebase %s", name, name)
		}
	}
	return nil
}
