package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"warble/shared/knative"
	"warble/shared/knative/kubeconfig"
	"warble/shared/rollout"
	"warble/shared/store"
)

// defaultNamespace is used if no flag, file or context names a namespace.
const defaultNamespace = "warble"

// settings are the flags that all verbs have, and the database's URL.
type settings struct {
	kubeconfig.Flags
	by          string
	databaseURL string // empty if DATABASE_URL is not set
	pace        pace
}

// pace has the times of a watch.
type pace struct {
	every time.Duration // between two checks of the status
	// unseen is how long steer may take to see a wish before the watch warns. Steer checks every experiment each minute.
	unseen time.Duration
	// patience is how long an experiment may stay stalled before the watch gives up. A pod that crashed once may start again.
	patience time.Duration
}

func newSettings() *settings {
	return &settings{
		databaseURL: os.Getenv("DATABASE_URL"),
		pace:        pace{every: 500 * time.Millisecond, unseen: 75 * time.Second, patience: 20 * time.Second},
	}
}

func (s *settings) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "kn-experiment",
		Short: "A/B experiments on Knative",
		Long: `A/B experiments on Knative: each user or community is in one arm and stays there.

A command writes your wish into the resource Experiment, and waits until the controller, steer, has carried it out. It needs only
rights on experiments; plan and start also read the Services if you may read them. The cluster is that of kubectl (KUBECONFIG). The figures of
an experiment are in PostgreSQL (DATABASE_URL).

Exit codes: 0 done; 1 failed; 2 wrong usage or file; 3 refused, withheld or stuck; 4 not done in time, steer continues.`,
		Example: `  kn experiment validate -f knative/experiments/likes.yaml
  kn experiment plan -f knative/experiments/likes.yaml
  kn experiment simulate -f knative/experiments/likes.yaml --units 3000
  kn experiment start -f knative/experiments/likes.yaml
  kn experiment status likes --watch
  kn experiment report likes
  kn experiment promote likes --write`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kn experiment"},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return exit(misused, "%w\n%s", err, c.UseLine())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&s.File, "kubeconfig", "", "kubeconfig file (default: the files of KUBECONFIG, or ~/.kube/config)")
	flags.StringVar(&s.Context, "context", "", "context of the kubeconfig (default: the current context)")
	flags.StringVar(&s.As, "as", "", "user to impersonate")
	flags.StringVarP(&s.Namespace, "namespace", "n", "", "namespace of the experiment (default: that of the file, that of the context, or "+defaultNamespace+")")
	flags.StringVar(&s.by, "by", os.Getenv("USER"), "your name, recorded with the wish")
	_ = root.MarkPersistentFlagFilename("kubeconfig") // the flag was just made
	root.AddCommand(s.validate(), s.plan(), s.start(), s.status(), s.list(), s.metrics(), s.report(), s.simulate(), s.drive(), s.archive(), s.dashboard(), s.version())
	root.AddCommand(s.wishes()...)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", columns)))
	for _, c := range append(root.Commands(), root) {
		c.Long = paragraphs(c.Long)
	}
	return root
}

// clusterConfig returns the configuration for the cluster, and the namespace: that of the flag, the file, the context, or warble.
func (s *settings) clusterConfig(file string) (config *rest.Config, namespace string, err error) {
	config, namespace, err = kubeconfig.Load(s.Flags)
	if err != nil {
		return nil, "", exit(failed, "%w", err)
	}
	return config, cmp.Or(s.Namespace, file, namespace, defaultNamespace), nil
}

// cluster returns a client of the cluster. file is the namespace of the experiment's file, empty if there is no file.
func (s *settings) cluster(file string) (*knative.Cluster, error) {
	config, namespace, err := s.clusterConfig(file)
	if err != nil {
		return nil, err
	}
	return knative.New(config, namespace, nil) // no verb that uses it calls an arm
}

var errNoDatabase = errors.New("DATABASE_URL is not set: expected the URL of Warble's PostgreSQL, with a login that is a member of warble_ops")

// database opens the database. It returns errNoDatabase if DATABASE_URL is not set.
func (s *settings) database() (*store.DB, error) {
	if s.databaseURL == "" {
		return nil, exit(failed, "%w", errNoDatabase)
	}
	return store.Open(s.databaseURL, 4)
}

func (s *settings) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version, and whether the cluster has the resource", Args: noArgs,
		Example: "  kn experiment version",
		RunE: func(c *cobra.Command, _ []string) error {
			version, commit := "unknown", ""
			if build, ok := debug.ReadBuildInfo(); ok {
				version = cmp.Or(build.Main.Version, version)
				for _, setting := range build.Settings {
					if setting.Key == "vcs.revision" {
						commit = ", commit " + setting.Value
					}
				}
			}
			c.Printf("version   %s%s\n", version, commit)
			c.Printf("resource  %s %s\n", rollout.GroupVersion, rollout.Kind)
			c.Printf("cluster   %s\n", s.describeCluster(c.Context()))
			return nil
		},
	}
}

// describeCluster returns a sentence that says whether the cluster has the resource.
func (s *settings) describeCluster(ctx context.Context) string {
	config, namespace, err := s.clusterConfig("")
	if err != nil {
		return err.Error()
	}
	cluster, err := knative.New(config, namespace, nil)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	switch _, err := cluster.Experiments(ctx); {
	case errors.Is(err, rollout.ErrNotFound):
		return config.Host + " does not have the resource: kubectl apply -f knative/210-experiment-crd.yaml"
	case err != nil:
		return config.Host + " cannot be reached: " + err.Error()
	}
	return config.Host + " has the resource"
}
