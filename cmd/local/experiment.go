package main

import (
	"encoding/json"
	"fmt"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// readFile reads the experiment of -experiment, with the wish to start.
func readFile(file string) (*rollout.Experiment, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-experiment: %w", err)
	}
	e, err := parseFile(text)
	if err != nil {
		return nil, fmt.Errorf("-experiment %s: %w", file, err)
	}
	return e, nil
}

// parseFile reads an experiment, and refuses what a local run cannot do.
func parseFile(text []byte) (*rollout.Experiment, error) {
	e, err := rollout.Parse(text)
	if err == nil {
		err = checkLocal(&e.Spec)
	}
	if err != nil {
		return nil, err
	}
	e.Spec.Start = true
	return e, nil
}

// createOnce creates the experiment of a file. If an experiment of the same name and design exists, it stays as it is.
func (r *records) createOnce(e *rollout.Experiment) error {
	present, err := r.get(e.Name)
	if apierrors.IsNotFound(err) {
		_, err = r.create(e)
		return err
	}
	if err != nil {
		return err
	}
	var wanted experiment.Spec // in the form in which it would be stored
	text, err := json.Marshal(e.Spec)
	if err == nil {
		err = json.Unmarshal(text, &wanted)
	}
	if err != nil {
		return err
	}
	wanted.Wishes = present.Spec.Wishes
	if err := experiment.CheckChange(experiment.Running, present.Spec, wanted); err != nil {
		return fmt.Errorf("the state folder has an experiment %s (%s) with another design: expected its design, another name, or -fresh",
			e.Name, present.Describe())
	}
	return nil
}
