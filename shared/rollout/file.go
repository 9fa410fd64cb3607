package rollout

import (
	"cmp"
	"errors"
	"fmt"

	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
)

// Parse reads an Experiment from YAML or JSON, fills in what its schema does, and says all that is wrong with it.
func Parse(text []byte) (*Experiment, error) {
	var e Experiment
	text, err := yaml.YAMLToJSONStrict(text)
	if err == nil {
		var unknown []error
		unknown, err = json.UnmarshalStrict(text, &e) // which names each field by its path
		err = errors.Join(append(unknown, err)...)
	}
	if err != nil {
		return nil, err
	}
	if e.APIVersion != GroupVersion.String() || e.Kind != "Experiment" {
		return nil, fmt.Errorf("it is %s %s: expected %s Experiment", cmp.Or(e.APIVersion, "no apiVersion"), cmp.Or(e.Kind, "no kind"), GroupVersion)
	}
	e.Spec.Default()
	if err := errors.Join(experiment.CheckName(e.Name), e.Spec.CheckNames(e.Name), e.Spec.Check()); err != nil {
		return nil, fmt.Errorf("\n%w", err) // a line each
	}
	return &e, nil
}
