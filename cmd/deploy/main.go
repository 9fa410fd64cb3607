// Command deploy puts Warble into the cluster of kubectl's current context.
//
//	deploy [-manifests knative] [-from release.yaml] [-kubeconfig FILE] [-context NAME] [-timeout 5m] [-community SLUG=NAME]... [up]
//	                            build, apply and wait until every function is ready
//	deploy candidate            the same with the traffic where it is, then a journey through the new revisions by their tags
//	deploy promote              give the traffic to what the journey has tried
//	deploy check                say what is wrong with the manifests, and touch nothing
//	deploy release FILE         build, and write one file that kubectl apply takes
//	deploy secrets              make what release.yaml leaves out: secrets, keys, the database's logins
//	deploy rotate-keys          take the next of the three steps that replace the key of the access tokens
//
// It runs at the root of the repository, and runs ko. KO_DOCKER_REPO names the registry. DATABASE_DIRECT_URL
// is the database as this machine reaches it, as its owner, who may create roles; where pods reach it under another name,
// DATABASE_POD_HOST has it, and DATABASE_POOLER_HOST that of a pooler. INGRESS_ADDRESS is where this machine reaches the
// ingress, if the URL of the edge does not lead there. Secrets are printed nowhere.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"warble/shared/env"
	"warble/shared/knative"
	"warble/shared/knative/kubeconfig"
	"warble/shared/store/migrations"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], env.FromOS(), os.Stdout, migrations.Files()); err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		os.Exit(1)
	}
}

const usage = "usage: deploy [flags] [up | candidate | promote | check | release FILE | secrets | rotate-keys]"

// deployment is one run of the command.
type deployment struct {
	settings
	*manifests
	access      kubeconfig.Flags
	from        string // a release whose images are deployed; "" builds them
	address     string // of the API server
	cluster     *knative.Objects
	held        holdings         // as of the last look
	replaced    map[string]*held // secrets of the database that this run has changed, as they were
	job         *object          // what tries a candidate out, with its image; nil otherwise
	notReady    []string         // functions that wait gave up on
	beside      bool             // the new revisions are to have no traffic: see candidate
	hidden      bool             // the edge's candidate is not the public's
	timeout     time.Duration
	communities [][2]string // slug and name
	migrations  fs.FS       // of this release
	out         io.Writer
}

// action is what one verb does.
type action func(context.Context, *env.Reader) error

// run does what the command line says. args are without the program's name, files the migrations of this release.
func run(ctx context.Context, args []string, e *env.Reader, out io.Writer, files fs.FS) error {
	d := deployment{out: out, migrations: files}
	flags := flag.NewFlagSet("deploy", flag.ExitOnError)
	folder := flags.String("manifests", "knative", "folder of the manifests")
	flags.StringVar(&d.from, "from", "", "take the images from this release.yaml, and build none")
	flags.StringVar(&d.access.File, "kubeconfig", "", "kubeconfig file (those of KUBECONFIG, or ~/.kube/config)")
	flags.StringVar(&d.access.Context, "context", "", "context of the kubeconfig (the current one)")
	flags.DurationVar(&d.timeout, "timeout", 5*time.Minute, "how long the migration, and then the functions, may take")
	flags.Func("community", "a community that the database is to have, as gophers=Gophers; may be repeated", func(text string) error {
		slug, name, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("expected SLUG=NAME")
		}
		d.communities = append(d.communities, [2]string{slug, name})
		return nil
	})
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	act, err := d.verb(flags.Args())
	if err != nil {
		return err
	}
	if d.manifests, err = readManifests(".", *folder); err != nil {
		return err
	}
	d.say("%s: %d functions, %d objects", *folder, len(d.functions), len(d.objects))
	return act(ctx, e)
}

func (d *deployment) verb(args []string) (action, error) {
	verbs := map[string]action{"up": d.up, "candidate": d.candidate, "promote": d.promote, "secrets": d.secretsOnly, "rotate-keys": d.rotateKeys}
	name := cmp.Or(strings.Join(args, " "), "up")
	switch {
	case verbs[name] != nil:
		return d.inCluster(verbs[name]), nil
	case name == "check":
		return func(context.Context, *env.Reader) error { return nil }, nil
	case len(args) == 2 && args[0] == "release":
		return func(ctx context.Context, e *env.Reader) error { return d.release(ctx, e, args[1]) }, nil
	}
	return nil, fmt.Errorf("%q: expected up, candidate, promote, check, release FILE, secrets or rotate-keys", args)
}

// up deploys.
func (d *deployment) up(ctx context.Context, e *env.Reader) error {
	if err := d.bring(ctx, e); err != nil {
		return err
	}
	if err := d.giveTraffic(ctx); err != nil { // which a candidate that failed has left where it was
		return err
	}
	return d.finish(ctx)
}

// finish says what there is to know of what was deployed.
func (d *deployment) finish(ctx context.Context) error {
	if err := d.welcome(ctx); err != nil {
		return err
	}
	return d.mentionArms(ctx)
}

// bring has every function at its new revision, ready. What can be found wrong is found before anything is built, and the
// functions that run stay until those that replace them are ready.
func (d *deployment) bring(ctx context.Context, e *env.Reader) error {
	d.settings = readSettings(e)
	ko := readBuilder(e)
	if err := e.Err(); err != nil {
		return err
	}
	if err := d.preflight(ctx); err != nil {
		return err
	}
	if err := d.experiments(ctx); err != nil {
		return err
	}
	if err := d.serveArms(ctx); err != nil {
		return err
	}
	resolved, err := d.build(ctx, ko)
	if err != nil {
		return err
	}
	if err := d.secrets(ctx); err != nil {
		return err
	}
	d.nameDatabases(resolved)
	publishTo(resolved, d.settings.sink)
	before, after := split(resolved)
	d.job, after = takeJob(after)
	if err := d.serveArms(ctx); err != nil { // of what was started while the images were built
		return err
	}
	if err := d.apply(ctx, before); err != nil {
		return err
	}
	if err := d.migrate(ctx, before); err != nil {
		return err
	}
	if err := d.logins(ctx); err != nil {
		return err
	}
	failed, err := d.neverReady(ctx)
	if err != nil {
		return err
	}
	if err := d.setAside(ctx); err != nil {
		return err
	}
	if err := d.apply(ctx, after); err != nil {
		return err
	}
	if err := d.setAside(ctx); err != nil { // those that were not there before
		return err
	}
	if err := d.retry(ctx, failed); err != nil { // now, or Knative would make them once more before it sees the new
		return err
	}
	d.say("applied %d objects", len(before)+len(after))
	if err := d.wait(ctx); err != nil {
		return errors.Join(err, d.restore(ctx))
	}
	return nil
}

// secretsOnly prepares cluster and database for a release.yaml. It applies the migrations from here, as the logins'
// groups come with them.
func (d *deployment) secretsOnly(ctx context.Context, e *env.Reader) error {
	d.settings = readSettings(e)
	if err := e.Err(); err != nil {
		return err
	}
	if err := d.preflight(ctx); err != nil {
		return err
	}
	if err := d.secrets(ctx); err != nil {
		return err
	}
	if err := d.serveArms(ctx); err != nil {
		return err
	}
	if err := d.migrateFromHere(ctx); err != nil {
		return err
	}
	return d.logins(ctx)
}

func (d *deployment) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }
