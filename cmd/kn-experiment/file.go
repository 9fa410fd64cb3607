package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// read reads an Experiment from a file, or from the standard input where that is -, and says all that is wrong with it.
func read(c *cobra.Command, file string) (*rollout.Experiment, error) {
	var text []byte
	var err error
	switch file {
	case "":
		return nil, exit(misused, "no file: %s", c.UseLine())
	case "-":
		text, err = io.ReadAll(c.InOrStdin())
	default:
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, exit(misused, "%w", err)
	}
	e, err := rollout.Parse(text)
	if err == nil {
		err = e.Spec.CheckNames(e.Name)
	}
	if err != nil {
		return nil, exit(misused, "%w", located(file, text, err))
	}
	return e, nil
}

// lastApplied is kubectl's copy of what was applied, which is of no file.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// printForGit writes an experiment as a file in Git would have it: the design and its start, and neither what a cluster
// adds nor a wish that a re-applier must not repeat.
func printForGit(c *cobra.Command, format, namespace string, e *rollout.Experiment, start experiment.Wishes) error {
	kept := &rollout.Experiment{Spec: *e.Spec.DeepCopy()}
	kept.Name, kept.Namespace, kept.Labels = e.Name, cmp.Or(namespace, e.Namespace), e.Labels
	for key, value := range e.Annotations {
		if key != lastApplied {
			metav1.SetMetaDataAnnotation(&kept.ObjectMeta, key, value)
		}
	}
	kept.Spec.Wishes = experiment.Wishes{Start: start.Start, StartAt: start.StartAt}
	return printAny(c, format, named(kept))
}

// named gives an experiment its kind, which a client drops.
func named(e *rollout.Experiment) *rollout.Experiment {
	e.APIVersion, e.Kind, e.ManagedFields = rollout.GroupVersion.String(), rollout.Kind, nil
	return e
}

func printAny(c *cobra.Command, format string, object any) error {
	text, err := yaml.Marshal(object)
	if err == nil && format == "json" {
		text, err = yaml.YAMLToJSON(text)
		text = append(text, '\n')
	}
	if err != nil {
		return err
	}
	_, err = c.OutOrStdout().Write(text)
	return err
}

// oneOf is a flag that has one of some values.
type oneOf struct {
	value   *string
	allowed []string
}

func (o oneOf) String() string {
	if o.value == nil {
		return ""
	}
	return *o.value
}

func (o oneOf) Type() string { return "string" }

func (o oneOf) Set(value string) error {
	if !slices.Contains(o.allowed, value) {
		return fmt.Errorf("expected one of %v", o.allowed)
	}
	*o.value = value
	return nil
}

// choice adds a flag that has one of some values, the first unless it is set, and completes it.
func choice(c *cobra.Command, value *string, name, shorthand, usage string, allowed ...string) {
	*value = allowed[0]
	c.Flags().VarP(oneOf{value, allowed}, name, shorthand, usage)
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp)) // the flag was just made
}

func (s *settings) validate() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "validate -f FILE", Short: "Say all that is wrong with a file, and ask nobody", Args: noArgs,
		Example: "  kn experiment validate -f knative/experiments/likes.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := read(c, file)
			if err == nil {
				c.Printf("%s: experiment %s is well-formed\n", file, e.Name)
			}
			return err
		},
	}
	fileFlag(c, &file)
	return c
}

func fileFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "filename", "f", "", "file of the Experiment, - for the standard input")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json") // the flag was just made
}

// noArgs and oneName are of the command line, whose mistakes have an exit code of their own.
func noArgs(c *cobra.Command, args []string) error { return usage(cobra.NoArgs(c, args), c) }

func oneName(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return exit(misused, "%d names: expected that of one experiment: %s", len(args), c.UseLine())
	}
	return nil
}

func usage(err error, c *cobra.Command) error {
	if err != nil {
		return exit(misused, "%w: %s", err, c.UseLine())
	}
	return nil
}

// names completes the name of an experiment.
func (s *settings) names(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	cluster, err := s.cluster("")
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	experiments, err := cluster.Experiments(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, e := range experiments {
		names = append(names, e.Name+"\t"+e.Describe())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// found words that there is no experiment of a name.
func found(err error, name, namespace string) error {
	if errors.Is(err, rollout.ErrNotFound) {
		return exit(failed, "there is no experiment %s in the namespace %s", name, namespace)
	}
	return err
}
