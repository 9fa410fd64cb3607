package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

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
	if err != nil {
		return nil, exit(misused, "%s: %w", file, err)
	}
	return e, nil
}

// print writes an object as GitOps would keep it: without what a cluster adds.
func print(c *cobra.Command, format string, e *rollout.Experiment, whole bool) error {
	kept := e.DeepCopy()
	kept.APIVersion, kept.Kind = rollout.GroupVersion.String(), "Experiment"
	if !whole {
		kept.ObjectMeta = rollout.Experiment{}.ObjectMeta
		kept.Name, kept.Namespace, kept.Labels = e.Name, e.Namespace, e.Labels
		kept.Status = rollout.Status{}
	}
	kept.ManagedFields = nil
	return printAny(c, format, kept)
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
	for _, allowed := range o.allowed {
		if value == allowed {
			*o.value = value
			return nil
		}
	}
	return fmt.Errorf("expected one of %v", o.allowed)
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
