package main

import (
	"cmp"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"warble/shared/experiment/readout"
	"warble/shared/rollout"
	"warble/shared/store"
)

const defaultNamespace = "warble"

// settings are the flags that all verbs have, and what is opened by them.
type settings struct {
	namespace string
	by        string
}

func newRoot() *cobra.Command {
	s := &settings{}
	root := &cobra.Command{
		Use:   "kn-experiment",
		Short: "A/B experiments on Knative's traffic splitting",
		Long: `A/B experiments on Knative's traffic splitting: a community or a user is in one arm, and stays.

The cluster is kubectl's (KUBECONFIG). What is stored of an experiment is in PostgreSQL (DATABASE_URL).

Exit codes: 0 done, 1 failed, 2 wrong usage or file, 3 refused, withheld or stuck, 4 not done in time: it goes on.`,
		Example: `  kn experiment validate -f knative/experiments/likes.yaml
  kn experiment plan -f knative/experiments/likes.yaml
  kn experiment simulate -f knative/experiments/likes.yaml --units 3000 --communities 60
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
	flags.StringVarP(&s.namespace, "namespace", "n", "", "namespace of the experiment (that of the file, or "+defaultNamespace+")")
	flags.StringVar(&s.by, "by", os.Getenv("USER"), "who you are, for the record")
	root.AddCommand(s.validate(), s.plan(), s.start(), s.status(), s.list(), s.report(), s.simulate(), s.run())
	root.AddCommand(s.wishes()...)
	return root
}

// config is how the cluster is reached.
func (s *settings) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil)
	config, err := loaded.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, exit(failed, "%w", errNoCluster)
	}
	return config, err
}

// cluster opens the namespace that a flag or the file names.
func (s *settings) cluster(namespace string) (*rollout.Knative, error) {
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	ask, err := rollout.AskFromOutside(config)
	if err != nil {
		return nil, err
	}
	return rollout.NewKnative(config, cmp.Or(s.namespace, namespace, defaultNamespace), "kn-experiment-"+s.by, ask)
}

var errNoCluster = errors.New("KUBECONFIG is not set, and there is no ~/.kube/config: expected the file by which kubectl reaches the cluster")

var errNoDatabase = errors.New("DATABASE_URL is not set: expected the URL of Warble's PostgreSQL, as a member of warble_ops")

// database opens what is stored; without DATABASE_URL it is errNoDatabase.
func (s *settings) database() (*store.DB, error) {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return nil, exit(failed, "%w", errNoDatabase)
	}
	return store.Open(url, 4)
}

// reconciler moves experiments, and says what it does. Without a database it stops, pauses and steps all the same: what is
// to be recorded waits in the resource for whoever has one.
func (s *settings) reconciler(c *cobra.Command, cluster rollout.Cluster) (r *rollout.Reconciler, closeAll func(), err error) {
	r = &rollout.Reconciler{
		Cluster: cluster, Store: nowhere{}, Now: time.Now, Actor: cmp.Or(s.by, "kn experiment"),
		Say: func(line string) { c.Println(line) },
	}
	db, err := s.database()
	if errors.Is(err, errNoDatabase) {
		return r, func() {}, nil
	} else if err != nil {
		return nil, nil, err
	}
	r.Store, r.Readout = db, readout.Driver{DB: db}
	return r, db.Close, nil
}
