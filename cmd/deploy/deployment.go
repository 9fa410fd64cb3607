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

// deployment is where one run of the command deploys and what: all of it is known before the first step, and no step changes
// it. What a step finds or makes is its result, and the argument of the steps that need it.
type deployment struct {
	output
	*manifests
	address    string // of the API server
	cluster    *knative.Objects
	timeout    time.Duration // of the migration, and then of the functions
	migrations fs.FS         // of this release
}

// newDeployment reads the manifests and finds the cluster. It asks the cluster nothing.
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

// output is where a step says what it does.
type output struct{ io.Writer }

func (o output) say(format string, args ...any) { fmt.Fprintf(o, format+"\n", args...) }

// up deploys, and gives the new revisions the traffic.
func (d *deployment) up(ctx context.Context, s settings, b builder) error {
	if err := d.bring(ctx, s, b, nil); err != nil {
		return err
	}
	if err := d.giveTraffic(ctx); err != nil { // which a candidate that failed has left where it was
		return err
	}
	return d.finish(ctx, s)
}

// candidate deploys with the traffic where it is: every function's new revision is reached by its tag alone, and a Job goes
// a user's way through the edge's. Where that fails, or a function does not get ready, the tags go, and what served serves
// on. The migration comes first, as in any deployment, so it must leave the schema one that the old revisions can use.
func (d *deployment) candidate(ctx context.Context, s settings, b builder) error {
	job, err := readCandidateJob(d.folder)
	if err != nil {
		return err
	}
	if err := d.bring(ctx, s, b, job); err != nil {
		withdrawing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return errors.Join(err, d.withdraw(withdrawing))
	}
	d.say("\nThe candidates do what they should, and have no traffic: make deploy ARGS=promote gives it to them")
	return nil
}

// bring has every function at its new revision, ready. With a job, the new revisions get no traffic, and the Job tries them
// out. What can be found wrong is found before anything is built, and the functions that run stay until those that replace
// them are ready.
func (d *deployment) bring(ctx context.Context, s settings, b builder, job *object) error {
	// Nothing is changed before all of this is right.
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
	if err := d.refuseOldArms(ctx, s); err != nil { // of what was started while the images were built
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

// replaceFunctions applies the functions. Beside a candidate's Job, the traffic stays with the revisions that have it.
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
		if err := d.setTrafficAside(ctx); err != nil { // of the Services that were not there before
			return err
		}
	}
	return d.retry(ctx, failed) // now, or Knative would make them once more before it sees the new
}

// finish says what there is to know of what was deployed.
func (d *deployment) finish(ctx context.Context, s settings) error {
	if err := d.welcome(ctx, s.ingress); err != nil {
		return err
	}
	return d.mentionArms(ctx)
}

// promote gives the traffic to the revisions that the Job has tried, and takes their tags away. The edge is the last, for
// its old revision can do with new functions and not the reverse.
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

// secretsOnly prepares cluster and database for a release.yaml. It applies the migrations from here, as the logins'
// groups come with them.
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
