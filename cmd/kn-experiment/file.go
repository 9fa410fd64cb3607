package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
	"warble/shared/rollout"
	"warble/shared/store"
)

// read reads an Experiment from a file, or from the standard input if file is "-". Its error names every mistake.
func read(c *cobra.Command, file string) (*rollout.Experiment, error) {
	e, _, _, err := readAll(c, file)
	return e, err
}

// document is one YAML document of a file. Everything before it is replaced by empty lines, so that line numbers are those of the file.
type document []byte

// documents splits a YAML file into its documents.
func documents(text []byte) (all []document) {
	var current []byte
	add := func() {
		if len(bytes.TrimSpace(current)) > 0 {
			all = append(all, current)
		}
	}
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("---")) && len(bytes.TrimSpace(line)) == 3 {
			add()
			current = bytes.Repeat([]byte("\n"), bytes.Count(current, []byte("\n"))+1)
			continue
		}
		current = append(current, line...)
	}
	add()
	return all
}

// readAll does what read does, and also returns the document of the Experiment and the Metrics of the file. It ignores resources of
// other kinds.
func readAll(c *cobra.Command, file string) (e *rollout.Experiment, its document, own []experiment.Metric, err error) {
	var text []byte
	switch file {
	case "":
		return nil, nil, nil, exit(misused, "expected -f FILE: %s", c.UseLine())
	case "-":
		text, err = io.ReadAll(c.InOrStdin())
	default:
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, nil, nil, exit(misused, "%w", err)
	}
	all := documents(text)
	kinds := make([]string, len(all))
	for i, one := range all {
		var meta metav1.TypeMeta
		if yaml.Unmarshal(one, &meta) == nil {
			kinds[i] = meta.Kind
		}
	}
	if !slices.Contains(kinds, rollout.Kind) { // then rollout.Parse says what the first document is, or that it is not YAML
		all, kinds = all[:min(1, len(all))], []string{rollout.Kind}
	}
	if len(all) == 0 {
		all = []document{text}
	}
	var wrong []error
	for i, one := range all {
		switch kinds[i] {
		case rollout.Kind:
			if e != nil {
				wrong = append(wrong, fmt.Errorf("%s: two Experiments: expected one", file))
				continue
			}
			its = one
			if e, err = rollout.Parse(one); err == nil {
				err = e.Spec.CheckNames(e.Name)
			}
			if err != nil {
				wrong = append(wrong, located(file, one, err))
			}
		case rollout.MetricKind:
			m, err := rollout.ParseMetric(one)
			if err != nil {
				wrong = append(wrong, located(file, one, err))
				continue
			}
			own = append(own, experiment.Metric{Name: m.Name, EventMetric: m.Spec})
		}
	}
	if len(wrong) > 0 {
		return nil, nil, nil, exit(misused, "%w", errors.Join(wrong...))
	}
	return e, its, own, nil
}

// lastApplied is the annotation with kubectl's copy of what was applied. It does not belong in a file.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// printForGit prints an experiment as a file for Git: the design and its start. It leaves out what a cluster adds, and the wishes that
// Flux or Argo CD must not repeat.
func printForGit(c *cobra.Command, format, namespace string, e *rollout.Experiment, start experiment.Wishes) error {
	kept := &rollout.Experiment{Spec: *e.Spec.DeepCopy()}
	kept.Name, kept.Namespace, kept.Labels = e.Name, cmp.Or(namespace, e.Namespace), e.Labels
	for key, value := range e.Annotations {
		if key != lastApplied {
			metav1.SetMetaDataAnnotation(&kept.ObjectMeta, key, value)
		}
	}
	kept.Spec.Wishes = experiment.Wishes{Start: start.Start, StartAt: start.StartAt}
	return printAny(c, format, withKind(kept))
}

// withKind sets the API version and the kind of an experiment, because a client does not keep them.
func withKind(e *rollout.Experiment) *rollout.Experiment {
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

// oneOf is the value of a flag that allows only certain values.
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

// choice adds a flag that allows only certain values, with shell completion. The default is the first value.
func choice(c *cobra.Command, value *string, name, shorthand, usage string, allowed ...string) {
	*value = allowed[0]
	c.Flags().VarP(oneOf{value, allowed}, name, shorthand, usage)
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp)) // the flag was just made
}

func (s *settings) validate() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "validate -f FILE", Short: "List every mistake in a file, and change nothing", Args: noArgs,
		Long: `List every mistake in a file's Experiment, and in its Metrics if it has any. The cluster is asked only about metrics that are neither
Warble's own nor in the file. If the cluster cannot be reached, a note says so; this is not an error.`,
		Example: "  kn experiment validate -f knative/experiments/likes.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			e, its, own, err := readAll(c, file)
			if err != nil {
				return err
			}
			if err := s.checkMetrics(c, e, own); err != nil {
				return exit(misused, "%w", located(file, its, err))
			}
			c.Printf("%s: experiment %s is well-formed\n", file, e.Name)
			return nil
		},
	}
	fileFlag(c, &file)
	return c
}

// checkMetrics returns an error for each field of an experiment that names a metric that does not exist. own are the Metrics of the
// file.
func (s *settings) checkMetrics(c *cobra.Command, e *rollout.Experiment, own []experiment.Metric) error {
	fields := metricFields(e)
	mayBeInCluster := func(name string) bool {
		_, err := store.OfUsers(name, own)
		return err != nil && experiment.CheckMetricName(name) == nil
	}
	var unreachable error // why the cluster's metrics are not known
	if slices.ContainsFunc(slices.Collect(maps.Values(fields)), mayBeInCluster) {
		var inCluster []experiment.Metric
		inCluster, unreachable = s.metricsOf(c, e.Namespace)
		for _, m := range inCluster {
			if mayBeInCluster(m.Name) { // if the file has it too, the file's is newer
				own = append(own, m)
			}
		}
	}
	var wrong []error
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		name := fields[field]
		metric, err := store.OfUsers(name, own)
		switch {
		case err != nil && unreachable != nil && mayBeInCluster(name):
			c.Printf("%s: metric %q is not Warble's own, and could not be looked up in the cluster: %v\n", field, name, unreachable)
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%s: %w", field, err))
		case e.Spec.Identity.Foreign() && metric.Events == "":
			wrong = append(wrong, fmt.Errorf("%s: %s measures users of Warble: expected a metric of events, because the units are identified by %s", field, name, e.Spec.Identity.Kind))
		}
	}
	return errors.Join(wrong...)
}

// metricFields returns the metrics that an experiment names, by the path of the field.
func metricFields(e *rollout.Experiment) map[string]string {
	fields := map[string]string{"metrics.primary.name": e.Spec.Metrics.Primary.Name}
	for i, name := range e.Spec.Metrics.Secondary {
		fields[fmt.Sprintf("metrics.secondary[%d]", i)] = name
	}
	for i, n := range e.Spec.Metrics.NoWorse {
		fields[fmt.Sprintf("metrics.noWorse[%d].name", i)] = n.Name
	}
	maps.DeleteFunc(fields, func(_, name string) bool { return name == "" }) // unit request has no primary metric
	return fields
}

// metricsOf reads the Metrics of the cluster.
func (s *settings) metricsOf(c *cobra.Command, namespace string) ([]experiment.Metric, error) {
	cluster, err := s.cluster(namespace)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context(), askLimit)
	defer cancel()
	return rollout.OwnMetrics(ctx, cluster, func(format string, args ...any) { c.Printf(format+"\n", args...) })
}

// askLimit is how long a verb waits for the cluster if it can do without the answer.
const askLimit = 5 * time.Second

func fileFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "filename", "f", "", "file of the Experiment, or - for standard input")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json") // the flag was just made
}

// noArgs and oneName check the number of arguments. A mistake in the command line has its own exit code.
func noArgs(c *cobra.Command, args []string) error { return usage(cobra.NoArgs(c, args), c) }

func oneName(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return exit(misused, "%d names: expected the name of one experiment: %s", len(args), c.UseLine())
	}
	return nil
}

func usage(err error, c *cobra.Command) error {
	if err != nil {
		return exit(misused, "%w: %s", err, c.UseLine())
	}
	return nil
}

// names completes experiments' names in a shell.
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

// explainNotFound returns err, or an error that names the experiment and the namespace if err is rollout.ErrNotFound.
func explainNotFound(err error, name, namespace string) error {
	if errors.Is(err, rollout.ErrNotFound) {
		return exit(failed, "there is no experiment %s in the namespace %s", name, namespace)
	}
	return err
}
