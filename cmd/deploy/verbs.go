package main

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"warble/shared/env"
	"warble/shared/knative/kubeconfig"
)

// options are the flags. Every verb has all of them.
type options struct {
	folder      string // with the manifests
	from        string // the file of a release whose images are deployed; empty to build them
	access      kubeconfig.Flags
	timeout     time.Duration
	communities [][2]string // slug and name
}

// newCommand returns the command with its verbs. e is the environment, and files are the migrations of this release.
func newCommand(e *env.Reader, files fs.FS) *cobra.Command {
	o := new(options)
	root := &cobra.Command{
		Use:               "deploy",
		Short:             "Put Warble into the cluster of kubectl's current context",
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &flagError{c, err} })
	o.define(root)

	// inCluster returns a verb that calls act with the deployment that the flags describe.
	inCluster := func(act func(context.Context, *deployment) error) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, _ []string) error {
			d, err := newDeployment(output{c.OutOrStdout()}, o, files)
			if err != nil {
				return err
			}
			return act(c.Context(), d)
		}
	}
	up := inCluster(func(ctx context.Context, d *deployment) error {
		s, b, err := readAll(e, o, d)
		if err != nil {
			return err
		}
		return d.up(ctx, s, b)
	})
	root.RunE, root.Args = up, words()
	root.AddCommand(&cobra.Command{
		Use: "up", Short: "Build, apply and wait until every function is ready (this is what deploy does without a verb)",
		Args: words(), RunE: up,
	}, &cobra.Command{
		Use: "candidate", Short: "Deploy without moving the traffic, then try the new revisions through their tags",
		Args: words(), RunE: inCluster(func(ctx context.Context, d *deployment) error {
			s, b, err := readAll(e, o, d)
			if err != nil {
				return err
			}
			return d.candidate(ctx, s, b)
		}),
	}, &cobra.Command{
		Use: "promote", Short: "Give the traffic to the candidates that were tried out",
		Args: words(), RunE: inCluster(func(ctx context.Context, d *deployment) error {
			s := readSettings(e, o)
			if err := e.Err(); err != nil {
				return err
			}
			return d.promote(ctx, s)
		}),
	}, &cobra.Command{
		Use: "check", Short: "List every mistake in the manifests, and change nothing",
		Args: words(), RunE: func(c *cobra.Command, _ []string) error {
			_, err := o.manifests(output{c.OutOrStdout()})
			return err
		},
	}, &cobra.Command{
		Use: "release FILE", Short: "Build, and write one file for kubectl apply",
		Args: words("FILE"), RunE: func(c *cobra.Command, args []string) error {
			out := output{c.OutOrStdout()}
			m, err := o.manifests(out)
			if err != nil {
				return err
			}
			b := readBuilder(e, o, m, out)
			if err := e.Err(); err != nil {
				return err
			}
			return b.release(c.Context(), args[0])
		},
	}, &cobra.Command{
		Use: "secrets", Short: "Make what release.yaml leaves out: secrets, keys, the database's logins",
		Args: words(), RunE: inCluster(func(ctx context.Context, d *deployment) error {
			s := readSettings(e, o)
			if err := e.Err(); err != nil {
				return err
			}
			return d.secretsOnly(ctx, s)
		}),
	}, &cobra.Command{
		Use: "rotate-keys", Short: "Make the next of the three steps that replace the key of the access tokens",
		Args: words(), RunE: inCluster(func(ctx context.Context, d *deployment) error { return d.rotateKeys(ctx) }),
	})
	return root
}

// readAll reads the environment of a deployment that builds, and reports all mistakes together.
func readAll(e *env.Reader, o *options, d *deployment) (settings, builder, error) {
	s, b := readSettings(e, o), readBuilder(e, o, d.manifests, d.output)
	return s, b, e.Err()
}

func (o *options) define(c *cobra.Command) {
	flags := c.PersistentFlags()
	flags.StringVar(&o.folder, "manifests", "knative", "folder of the manifests")
	flags.StringVar(&o.from, "from", "", "use the images of this release.yaml instead of building")
	flags.StringVar(&o.access.File, "kubeconfig", "", "kubeconfig file (default: the files of KUBECONFIG, or ~/.kube/config)")
	flags.StringVar(&o.access.Context, "context", "", "context of the kubeconfig (default: the current context)")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "time limit for the migration, and again for the functions")
	flags.Func("community", "create this community, for example gophers=Gophers; may be repeated", func(text string) error {
		slug, name, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("expected SLUG=NAME")
		}
		o.communities = append(o.communities, [2]string{slug, name})
		return nil
	})
}

// manifests reads the manifests, and prints how many there are.
func (o *options) manifests(out output) (*manifests, error) {
	m, err := readManifests(".", o.folder)
	if err != nil {
		return nil, err
	}
	out.say("%s: %d functions, %d objects", o.folder, len(m.functions), len(m.objects))
	return m, nil
}

// words returns a check that a verb has exactly one argument for each of names.
func words(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if c.HasParent() {
			args = slices.Insert(slices.Clone(args), 0, c.Name())
		}
		return fmt.Errorf("%q: expected up, candidate, promote, check, release FILE, secrets or rotate-keys", args)
	}
}

// withTwoDashes turns -flag, which is accepted too, into --flag. Only -h has one letter.
func withTwoDashes(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		if len(arg) > 2 && arg[0] == '-' && arg[1] != '-' {
			args[i] = "-" + arg
		}
	}
	return args
}

// flagError is a mistake in the flags of a command.
type flagError struct {
	command *cobra.Command
	err     error
}

func (e *flagError) Error() string { return e.err.Error() + "\n" + e.command.UsageString() }
func (e *flagError) Unwrap() error { return e.err }
