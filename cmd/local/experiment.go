package main

import (
	"encoding/json"
	"fmt"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// readFile reads the experiment of -experiment, which is to start.
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

// parseFile reads an experiment that a local run can have.
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

// begin creates the experiment of a file. One of the same name and design is left as it is.
func (r *records) begin(e *rollout.Experiment) error {
	present, err := r.get(e.Name)
	if apierrors.IsNotFound(err) {
		_, err = r.create(e)
		return err
	}
	if err != nil {
		return err
	}
	var wanted experiment.Spec // as it would be kept
	text, err := json.Marshal(e.Spec)
	if err == nil {
		err = json.Unmarshal(text, &wanted)
	}
	if err != nil {
		return err
	}
	wanted.Wishes = present.Spec.Wishes
	if err := experiment.CheckChange(experiment.Running, present.Spec, wanted); err != nil {
		return fmt.Errorf("there is an experiment %s here, %s, of another design: expected the design that it was created with, another name, or -fresh",
			e.Name, present.Describe())
	}
	return nil
}
