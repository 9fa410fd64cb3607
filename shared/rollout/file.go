package rollout

import (
	"cmp"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
)

// Parse reads an Experiment from YAML or JSON and fills in the schema's defaults. Its error lists every mistake.
func Parse(text []byte) (*Experiment, error) {
	var e Experiment
	if err := decode(text, &e, &e.TypeMeta, Kind); err != nil {
		return nil, err
	}
	e.Spec.Default()
	if err := errors.Join(experiment.CheckName(e.Name), e.Spec.CheckNames(e.Name), e.Spec.Check()); err != nil {
		return nil, fmt.Errorf("\n%w", err) // a line each
	}
	return &e, nil
}

// decode reads a resource of a kind from YAML or JSON. Unknown fields and another kind are errors.
func decode(text []byte, into any, is *metav1.TypeMeta, kind string) error {
	text, err := yaml.YAMLToJSONStrict(text)
	if err == nil {
		var unknown []error
		unknown, err = json.UnmarshalStrict(text, into) // its errors have each field's path
		err = errors.Join(append(unknown, err)...)
	}
	if err != nil {
		return err
	}
	if is.APIVersion != GroupVersion.String() || is.Kind != kind {
		if is.Kind == "Service" && kind == Kind {
			return fmt.Errorf("it is a Service (%s): expected an Experiment (%s), whose spec.services names it", cmp.Or(is.APIVersion, "no apiVersion"), GroupVersion)
		}
		return fmt.Errorf("it is %s %s: expected %s %s", cmp.Or(is.APIVersion, "no apiVersion"), cmp.Or(is.Kind, "no kind"), GroupVersion, kind)
	}
	return nil
}
