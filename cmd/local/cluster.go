package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"warble/shared/experiment"
	"warble/shared/manifest"
	"warble/shared/rollout"
)

const (
	// requestTimeout is the timeout of the manifests, and pool the number of database connections of each function.
	requestTimeout = 30 * time.Second
	pool           = 4
)

// cluster implements rollout.Cluster with processes: one for each function, and two more for each function in an experiment. A route to
// arms is only a record, because the edge sends everyone in an arm to the arm's process. Nothing splits requests here.
type cluster struct {
	records  *records
	fleet    *fleet
	services []*manifest.Service
	run      context.Context //nolint:containedctx // the run's context: a process outlives the turn that starts it

	mu      sync.Mutex
	printed map[string]string // the last line about each experiment
}

// newCluster adds the arms of earlier runs to the fleet, which brings them up at its start, and makes the fleet follow every change of
// the records.
func newCluster(ctx context.Context, r *records, f *fleet, services []*manifest.Service) (*cluster, error) {
	c := &cluster{records: r, fleet: f, services: services, run: ctx, printed: make(map[string]string)}
	r.onChange = f.follow
	k := r.read()
	for key := range k.Arms {
		if _, err := c.addArms(k, key); err != nil {
			return nil, err
		}
	}
	return c, f.follow(k)
}

// Namespace implements rollout.Cluster.
func (c *cluster) Namespace(context.Context) (rollout.Namespace, error) {
	return rollout.Namespace{UID: string(c.records.read().Namespace)}, nil
}

// Experiments implements rollout.Cluster.
func (c *cluster) Experiments(context.Context) ([]rollout.Experiment, error) {
	return c.records.list().Items, nil
}

// Experiment implements rollout.Cluster.
func (c *cluster) Experiment(_ context.Context, name string) (*rollout.Experiment, error) {
	e, err := c.records.get(name)
	return e, failure(err)
}

// Metrics implements rollout.Cluster.
func (c *cluster) Metrics(context.Context) ([]rollout.Metric, error) {
	return c.records.metrics().Items, nil
}

// UpdateStatus implements rollout.Cluster.
func (c *cluster) UpdateStatus(_ context.Context, e *rollout.Experiment) error {
	_, err := c.records.updateStatus(e.Name, e)
	return failure(err)
}

// failure maps an error of an API server to the errors of rollout.Cluster.
func failure(err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", rollout.ErrNotFound, err)
	case apierrors.IsConflict(err):
		return fmt.Errorf("%w: %w", rollout.ErrConflict, err)
	}
	return err
}

// Services implements rollout.Cluster. It also repeats a replacement that GiveTreatment has begun, until it succeeds.
func (c *cluster) Services(context.Context, []string) (all []*rollout.Service, err error) {
	k := c.records.read()
	for _, m := range c.services {
		revision, variables := k.newest(m.Name())
		c.fleet.succeedLater(c.run, m, revision, settings(variables))
		ready := c.fleet.untouched(m.Name())
		s := &rollout.Service{
			Name: m.Name(), UID: string(k.Namespace) + "-" + m.Name(),
			Created: revision, Ready: ready, Settled: ready == revision, Latest: true,
			Image: m.Container().Image, Wished: m.Container().Image, Env: make(map[string]string),
			Timeout: requestTimeout, Pool: pool, Guest: m.Guest(), Experiments: m.Metadata.Annotations[manifest.ExperimentsAnnotation],
		}
		if s.Guest { // a guest does not use Warble's database
			s.Pool = 0
		}
		for _, v := range m.Container().Env {
			if v.ValueFrom != nil {
				s.Elsewhere = append(s.Elsewhere, v.Name)
			} else {
				s.Env[v.Name] = v.Value
			}
		}
		if features, set := os.LookupEnv("FEATURES"); set {
			s.Env["FEATURES"] = features
		}
		maps.Copy(s.Env, variables)
		all = append(all, s)
	}
	return all, nil
}

// Arms implements rollout.Cluster.
func (c *cluster) Arms(_ context.Context, e *rollout.Experiment) (map[string]*rollout.Arms, error) {
	k := c.records.read()
	all := make(map[string]*rollout.Arms)
	for _, service := range e.Spec.Services {
		key := keyOf(e.UID, service)
		record := k.Arms[key]
		if record == nil {
			continue
		}
		if err := c.bringUpArms(k, key); err != nil {
			return nil, err
		}
		all[service] = &rollout.Arms{
			Control:   c.armState(key, record.Arms[experiment.Control]),
			Treatment: c.armState(key, record.Arms[experiment.Treatment]),
		}
		if record.Route != nil {
			all[service].Route = c.routeState(key, record.Route)
		}
	}
	return all, nil
}

// armState returns the state of an arm's newest revision, or nil if there is no record of the arm.
func (c *cluster) armState(key armsKey, record *madeRecord) *rollout.ArmState {
	if record == nil {
		return nil
	}
	newest := record.newest()
	made := &rollout.ArmState{Source: newest.Of, Revision: newest.Name}
	made.Ready, made.Failed = c.fleet.armState(c.run, idOf(key, newest.Name))
	return made
}

// routeState returns where a route leads. The route is in force when both processes have an address, which they get when they are added
// to the fleet.
func (c *cluster) routeState(key armsKey, route *rollout.Route) *rollout.RouteState {
	control, treatment := c.fleet.address(idOf(key, route.Control)), c.fleet.address(idOf(key, route.Treatment))
	return &rollout.RouteState{
		Control: route.Control, Treatment: route.Treatment, Percent: route.Percent, InForce: control != "" && treatment != "",
		Reach: experiment.Reach{
			Control:   experiment.Side{Host: control, Revision: route.Control},
			Treatment: experiment.Side{Host: treatment, Revision: route.Treatment},
		},
	}
}

// MakeArm implements rollout.Cluster. An older revision of the arm stays until no route leads to it.
func (c *cluster) MakeArm(_ context.Context, e *rollout.Experiment, arm rollout.Arm) error {
	m := c.manifest(arm.Service)
	if m == nil {
		return fmt.Errorf("there is no function %s: %w", arm.Service, rollout.ErrNotFound)
	}
	if arm.Image != m.Container().Image {
		return fmt.Errorf("the image %s of %s: expected %s, because a local run has only one program for each function", arm.Image, arm.Service, m.Container().Image)
	}
	key := keyOf(e.UID, arm.Service)
	err := c.records.write(func(k *kept) error {
		if err := k.checkExists(e.Name, e.UID); err != nil {
			return err
		}
		base, err := k.variables(arm.Service, arm.Base)
		if err != nil {
			return err
		}
		env := make(map[string]string)
		maps.Copy(env, base)
		maps.Copy(env, arm.Env)
		if k.Arms[key] == nil {
			k.Arms[key] = &armsRecord{Service: arm.Service, Arms: make(map[experiment.Arm]*madeRecord)}
		}
		record := k.Arms[key].Arms[arm.Arm]
		if record == nil {
			record = &madeRecord{}
			k.Arms[key].Arms[arm.Arm] = record
		} else if record.newest().Of == arm.Source {
			return rollout.ErrConflict // somebody else has made it
		}
		record.Made++
		name := fmt.Sprintf("%s-%s-%s-%05d", e.Name, arm.Service, arm.Arm, record.Made)
		record.Revisions = append(record.Revisions, revisionRecord{Name: name, Of: arm.Source, Env: env})
		return nil
	})
	if err != nil {
		return err
	}
	return c.bringUpArms(c.records.read(), key)
}

// PutRoute implements rollout.Cluster.
func (c *cluster) PutRoute(_ context.Context, e *rollout.Experiment, route rollout.Route) error {
	return c.records.write(func(k *kept) error {
		if err := k.checkExists(e.Name, e.UID); err != nil {
			return err
		}
		record := k.Arms[keyOf(e.UID, route.Service)]
		if record == nil {
			return fmt.Errorf("%s has no arms in %s: %w", route.Service, e.Name, rollout.ErrConflict)
		}
		record.Route = &route
		return nil
	})
}

// RemoveRoute implements rollout.Cluster.
func (c *cluster) RemoveRoute(_ context.Context, e *rollout.Experiment, service string) error {
	return c.records.write(func(k *kept) error {
		if record := k.Arms[keyOf(e.UID, service)]; record != nil {
			record.Route = nil
		}
		return nil
	})
}

// RemoveArms implements rollout.Cluster. It does not wait for the processes to end.
func (c *cluster) RemoveArms(_ context.Context, e *rollout.Experiment, service string) error {
	return c.records.write(func(k *kept) error {
		delete(k.Arms, keyOf(e.UID, service))
		return nil
	})
}

// Answers implements rollout.Cluster.
func (c *cluster) Answers(ctx context.Context, host string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close() //nolint:errcheck // only the header matters
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	if revision := answer.Header.Get("X-Revision"); revision != "" {
		return revision, nil
	}
	return "", fmt.Errorf("%s answers %d and names no revision", host, answer.StatusCode)
}

// GiveTreatment implements rollout.Cluster. The new process takes over when it is ready. Then Services reports the Service as settled.
func (c *cluster) GiveTreatment(_ context.Context, s *rollout.Service, env map[string]string, image string) error {
	m := c.manifest(s.Name)
	if m == nil {
		return fmt.Errorf("there is no function %s: %w", s.Name, rollout.ErrNotFound)
	}
	if image != "" {
		return fmt.Errorf("the image %s of %s: expected none, because a local run has only one program for each function", image, s.Name)
	}
	err := c.records.write(func(k *kept) error {
		revision, before := k.newest(s.Name)
		if revision != s.Created {
			return rollout.ErrConflict
		}
		variables := make(map[string]string)
		maps.Copy(variables, before)
		maps.Copy(variables, env)
		if k.Services[s.Name] == nil {
			k.Services[s.Name] = &serviceRecord{}
		}
		k.Services[s.Name].Overrides = append(k.Services[s.Name].Overrides, variables)
		return nil
	})
	if err != nil {
		return err
	}
	revision, variables := c.records.read().newest(s.Name)
	c.fleet.succeedLater(c.run, m, revision, settings(variables))
	return nil
}

// RecordEvent implements rollout.Cluster. It prints the event, unless the last line about the experiment was the same.
func (c *cluster) RecordEvent(_ context.Context, e *rollout.Experiment, event rollout.Event) error {
	line := e.Name + ": " + event.Message
	c.mu.Lock()
	before := c.printed[e.Name]
	c.mu.Unlock()
	if line != before {
		c.say(line)
	}
	return nil
}

// say prints a line about an experiment, which begins with its name.
func (c *cluster) say(line string) {
	name, _, _ := strings.Cut(line, ": ")
	c.mu.Lock()
	c.printed[name] = line
	c.mu.Unlock()
	c.fleet.console.say(line)
}

func (c *cluster) manifest(service string) *manifest.Service {
	for _, m := range c.services {
		if m.Name() == service {
			return m
		}
	}
	return nil
}

// checkExists returns rollout.ErrNotFound if the experiment was deleted, even if another one has its name.
func (k *kept) checkExists(name string, uid types.UID) error {
	if e := k.Experiments[name]; e == nil || e.UID != uid {
		return rollout.ErrNotFound
	}
	return nil
}

// bringUpArms brings up the recorded revisions of arms that the fleet does not have yet.
func (c *cluster) bringUpArms(k *kept, key armsKey) error {
	added, err := c.addArms(k, key)
	for _, one := range added {
		c.fleet.bringUpLater(c.run, one)
	}
	return err
}

// addArms adds to the fleet the recorded revisions of arms that it does not have yet. The caller has to bring them up.
func (c *cluster) addArms(k *kept, key armsKey) (added []*function, err error) {
	record := k.Arms[key]
	for arm, made := range record.Arms {
		for _, revision := range made.Revisions {
			id := idOf(key, revision.Name)
			if c.fleet.address(id) != "" {
				continue
			}
			one, err := c.fleet.addArm(c.manifest(record.Service), id, revision.Name, arm, settings(revision.Env))
			if err != nil {
				return added, err
			}
			if one != nil {
				added = append(added, one)
			}
		}
	}
	return added, nil
}

// dropUnused drops the records of arms whose experiment was deleted, and of older revisions to which neither a route nor an edge leads.
func (c *cluster) dropUnused() error {
	return c.records.write(func(k *kept) error {
		byUID := make(map[types.UID]*rollout.Experiment)
		for _, e := range k.Experiments {
			byUID[e.UID] = e
		}
		for key, record := range k.Arms {
			uid, _, _ := strings.Cut(string(key), "/")
			e := byUID[types.UID(uid)]
			if e == nil {
				delete(k.Arms, key)
				continue
			}
			for arm, made := range record.Arms {
				used := map[string]bool{made.newest().Name: true}
				if record.Route != nil {
					used[record.Route.Control], used[record.Route.Treatment] = true, true
				}
				for _, at := range e.Status.Assign.Services {
					used[at.Side(arm).Revision] = true
				}
				made.Revisions = slices.DeleteFunc(made.Revisions, func(r revisionRecord) bool { return !used[r.Name] })
			}
		}
		return nil
	})
}

// settings returns variables in the form NAME=VALUE, for a process.
func settings(env map[string]string) (all []string) {
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	return all
}
