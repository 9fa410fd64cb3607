package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"warble/shared/knative"
	"warble/shared/knative/kubeconfig"
)

// deployment is what one run of the command deploys, and where. All of it is known before the first step, and no step changes it. A step
// returns what it finds or makes, and later steps take that as an argument.
type deployment struct {
	output
	*manifests
	address    string // of the API server
	cluster    *knative.Objects
	timeout    time.Duration // for the migration, and again for the functions
	migrations fs.FS         // those of this release
}

// newDeployment reads the manifests and the kubeconfig. It does not call the cluster.
func newDeployment(out output, o *options, files fs.FS) (*deployment, error) {
	m, err := o.manifests(out)
	if err != nil {
		return nil, err
	}
	config, _, err := kubeconfig.Load(o.access)
	if err != nil {
		return nil, err
	}
	cluster, err := knative.NewObjects(config, m.namespace, fieldManager)
	if err != nil {
		return nil, err
	}
	return &deployment{output: out, manifests: m, address: config.Host, cluster: cluster, timeout: o.timeout, migrations: files}, nil
}

// output is where the steps print what they do.
type output struct{ io.Writer }

func (o output) say(format string, args ...any) { fmt.Fprintf(o, format+"\n", args...) }

// up deploys, and gives the new revisions the traffic.
func (d *deployment) up(ctx context.Context, s settings, b builder) error {
	if err := d.replaceRevisions(ctx, s, b, nil); err != nil {
		return err
	}
	if err := d.giveTraffic(ctx); err != nil { // needed if an earlier candidate has failed, because it leaves the traffic pinned
		return err
	}
	return d.finish(ctx, s)
}

// candidate deploys without moving the traffic: only the tag candidate leads to each function's new revision, and a Job makes a
// user's requests to the edge's new revision. If the Job fails, or a function does not become ready, the tags are removed, and the
// old revisions continue to serve. The migration comes first, as in any deployment, so the old revisions must work with the new
// schema.
func (d *deployment) candidate(ctx context.Context, s settings, b builder) error {
	job, err := readCandidateJob(d.folder)
	if err != nil {
		return err
	}
	if err := d.replaceRevisions(ctx, s, b, job); err != nil {
		withdrawing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return errors.Join(err, d.withdraw(withdrawing))
	}
	d.say("\nThe candidates work. They have no traffic yet. To give it to them: make deploy ARGS=promote")
	return nil
}

// replaceRevisions deploys every function, and waits until the new revisions are ready. With a job, the new revisions get no traffic, and the
// Job tries them out. All checks come before the build. The running revisions stay until the new ones are ready.
func (d *deployment) replaceRevisions(ctx context.Context, s settings, b builder, job *object) error {
	// Nothing is changed before all of these checks pass.
	objects := d.objects
	if job != nil {
		objects = append(slices.Clone(objects), job)
	}
	if err := d.preflight(ctx, s, objects); err != nil {
		return err
	}
	if err := d.refuseExperiments(ctx); err != nil {
		return err
	}
	if err := d.refuseOldArms(ctx, s); err != nil {
		return err
	}

	built, err := b.build(ctx, objects)
	if err != nil {
		return err
	}
	made, err := d.makeSecrets(ctx, s)
	if err != nil {
		return err
	}
	nameDatabases(built, made.holdings)
	publishTo(built, s.sink)
	plan := split(built)

	// The database comes first: the old revisions run on the new schema, and the new ones need it.
	if err := d.refuseOldArms(ctx, s); err != nil { // again, because an experiment may have started during the build
		return err
	}
	if err := d.apply(ctx, plan.ground); err != nil {
		return err
	}
	if err := d.migrate(ctx, plan.ground); err != nil {
		return err
	}
	if err := d.makeLogins(ctx, s, made.holdings); err != nil {
		return err
	}

	if err := d.replaceFunctions(ctx, plan); err != nil {
		return err
	}
	d.say("applied %d objects", len(plan.ground)+len(plan.functions))
	if unready, err := d.wait(ctx, plan.job != nil); err != nil {
		return errors.Join(err, d.restoreSecrets(ctx, objects, made, unready))
	}
	if plan.job == nil {
		return nil
	}
	return d.tryCandidates(ctx, plan.job)
}

// replaceFunctions applies the functions. With a candidate's Job, the traffic stays with the revisions that have it.
func (d *deployment) replaceFunctions(ctx context.Context, p plan) error {
	failed, err := d.neverReady(ctx)
	if err != nil {
		return err
	}
	if p.job != nil {
		if err := d.setTrafficAside(ctx); err != nil {
			return err
		}
	}
	if err := d.apply(ctx, p.functions); err != nil {
		return err
	}
	if p.job != nil {
		if err := d.setTrafficAside(ctx); err != nil { // again, for Services that did not exist before
			return err
		}
	}
	return d.retry(ctx, failed) // not earlier, because Knative would make the failed revisions again before it sees the new Services
}

// finish prints the address of the API, and the experiments whose arms are older than the deployment.
func (d *deployment) finish(ctx context.Context, s settings) error {
	if err := d.welcome(ctx, s.ingress); err != nil {
		return err
	}
	return d.mentionArms(ctx)
}

// promote gives the traffic to the revisions that the Job has tried, and removes their tags. The edge comes last, because an old edge works
// with new functions, but a new edge may not work with old ones.
func (d *deployment) promote(ctx context.Context, s settings) error {
	if err := d.requireTried(ctx); err != nil {
		return err
	}
	if err := d.giveTraffic(ctx); err != nil {
		return err
	}
	if _, err := d.wait(ctx, false); err != nil {
		return err
	}
	if err := d.removeCandidateJob(ctx); err != nil {
		return err
	}
	return d.finish(ctx, s)
}

// secretsOnly prepares the cluster and the database for a release.yaml. It applies the migrations from this machine, because they create the
// groups of the logins.
func (d *deployment) secretsOnly(ctx context.Context, s settings) error {
	if err := d.preflight(ctx, s, d.objects); err != nil {
		return err
	}
	made, err := d.makeSecrets(ctx, s)
	if err != nil {
		return err
	}
	if err := d.refuseOldArms(ctx, s); err != nil {
		return err
	}
	if err := d.migrateFromHere(ctx, s); err != nil {
		return err
	}
	return d.makeLogins(ctx, s, made.holdings)
}
