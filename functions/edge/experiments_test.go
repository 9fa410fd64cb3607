package main

import (
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// experimenter changes Experiments as people and rollout do.
type experimenter struct {
	t    *testing.T
	rest rest.Interface
}

func newExperimenter(t *testing.T, config *rest.Config) experimenter {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	experiments, err := newExperimentsClient(config, client, ns)
	if err != nil {
		t.Fatal(err)
	}
	return experimenter{t, experiments.rest}
}

// apply creates or changes an Experiment and its status.
func (x experimenter) apply(e *rollout.Experiment) {
	x.t.Helper()
	e.TypeMeta = metav1.TypeMeta{APIVersion: rollout.GroupVersion.String(), Kind: kindExperiment}
	written := new(rollout.Experiment)
	err := x.rest.Get().Namespace(ns).Resource(rollout.Resource).Name(e.Name).Do(x.t.Context()).Into(written)
	if err == nil {
		written.Spec, written.TypeMeta = e.Spec, e.TypeMeta
		err = x.rest.Put().Namespace(ns).Resource(rollout.Resource).Name(e.Name).Body(written).Do(x.t.Context()).Into(written)
	} else {
		err = x.rest.Post().Namespace(ns).Resource(rollout.Resource).Body(e).Do(x.t.Context()).Into(written)
	}
	if err == nil {
		written.Status, written.TypeMeta = e.Status, e.TypeMeta
		err = x.rest.Put().Namespace(ns).Resource(rollout.Resource).Name(e.Name).SubResource("status").Body(written).Do(x.t.Context()).Error()
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x experimenter) remove(name string) {
	x.t.Helper()
	if err := x.rest.Delete().Namespace(ns).Resource(rollout.Resource).Name(name).Do(x.t.Context()).Error(); err != nil {
		x.t.Fatal(err)
	}
}

// runningExperiment returns an Experiment with the given number of open slots in each arm.
func runningExperiment(name string, open int, services ...string) *rollout.Experiment {
	e := &rollout.Experiment{ObjectMeta: metav1.ObjectMeta{Name: name}}
	e.Spec = experiment.Spec{Services: services, Unit: experiment.User, Layer: experiment.LayerShare{Name: "engagement", Slots: []int{0, 10_000}}}
	e.Status = rollout.Status{Phase: experiment.Running, Assign: rollout.Assign{Salt: name, Open: experiment.Open{Control: open, Treatment: open}, ArmedAt: metav1.NowMicro()}}
	for _, service := range services {
		side := func(arm experiment.Arm) experiment.Side {
			return experiment.Side{Host: string(arm) + "-" + name + "-" + service + ".warble.svc.cluster.local", Revision: name + "-" + service + "-" + string(arm) + "-00001"}
		}
		e.Status.Assign.Services = append(e.Status.Assign.Services, rollout.ServiceReach{Name: service, Reach: experiment.Reach{
			Host: name + "-" + service + ".warble.svc.cluster.local", Control: side(experiment.Control), Treatment: side(experiment.Treatment),
		}})
	}
	return e
}

// experimentAt returns the experiment in force at a function; nil if there is none.
func (p *pod) experimentAt(name string) *routedExperiment {
	if t := p.current.Load(); t != nil && t.targets[name] != nil {
		return t.targets[name].experiment
	}
	return nil
}

// TestExperimentsAreInForceWithin2s checks each change on two edges.
func TestExperimentsAreInForceWithin2s(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.start(t)
	one, other := startPod(t, s.config(), ""), startPod(t, s.config(), "")
	o, x := newOperator(t, s.config()), newExperimenter(t, s.config())
	inForceSoon := func(what string, holds func(p *pod) bool) {
		t.Helper()
		inForceSoon(t, what, func() bool { return holds(one) && holds(other) })
	}
	open := func(service, name string, slots int) func(*pod) bool {
		return func(p *pod) bool {
			exp := p.experimentAt(service)
			return exp != nil && exp.Name == name && exp.Open == experiment.Open{Control: slots, Treatment: slots}
		}
	}
	o.apply(knativeService("like", "/2/like"))
	inForceSoon("like is there", func(p *pod) bool { return p.targetName("/2/like") == "like" })
	x.apply(runningExperiment("likes", 0, "like"))
	x.apply(runningExperiment("likes", 1000, "like"))
	inForceSoon("10 %", open("like", "likes", 1000))
	exp := one.experimentAt("like")
	if !exp.exposes || exp.treatment.url.String() != "http://treatment-likes-like.warble.svc.cluster.local" || exp.control.revision != "likes-like-control-00001" {
		t.Errorf("the arms are %+v and %+v", exp.control, exp.treatment)
	}
	x.apply(runningExperiment("likes", 2500, "like"))
	inForceSoon("25 %", open("like", "likes", 2500))

	x.apply(runningExperiment("threads", 5000, "like", "tweet"))
	told := func() []string { return o.refusalEvents("threads") }
	eventually(t, "the younger is told", func() bool { return len(told()) == 1 })
	if message := told()[0]; message != "threads: services: like is in the experiment likes: expected one at a time\nlayer.slots: 0 to 10000 of engagement overlap those of the experiment likes, 0 to 10000: expected others" {
		t.Errorf("it is told %q", message)
	}
	if exp := one.experimentAt("like"); exp == nil || exp.Name != "likes" {
		t.Errorf("in force is %+v", exp)
	}

	s.stop()
	eventually(t, "the log says that the API server is away", func() bool { return one.log.count("experiments is interrupted") > 0 })
	if !open("like", "likes", 2500)(one) {
		t.Error("the last view is gone")
	}
	s.start(t)
	stopped := runningExperiment("likes", 2500, "like")
	stopped.Spec.End = experiment.Stopped // set by kubectl; steer has not closed the slots yet
	x.apply(stopped)
	eventually(t, "the younger, once the older is stopped", func() bool { return open("like", "threads", 5000)(one) && open("like", "threads", 5000)(other) })
	x.remove("threads")
	inForceSoon("nothing", func(p *pod) bool { return p.experimentAt("like") == nil })
}

// TestTheFirstViewHasTheExperiments checks that a new edge is not ready before it has the experiments. Otherwise users would leave
// their arms for a moment.
func TestTheFirstViewHasTheExperiments(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	var slow atomic.Bool
	s.refuse = func(r *http.Request) *metav1.Status {
		if slow.Load() && strings.HasSuffix(r.URL.Path, "/experiments") {
			return failure(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
		}
		return nil
	}
	s.start(t)
	newOperator(t, s.config()).apply(knativeService("like", "/2/like"))
	newExperimenter(t, s.config()).apply(runningExperiment("likes", 5000, "like"))
	slow.Store(true)
	p := startPod(t, s.config(), "")
	eventually(t, "the Services are seen", func() bool { return p.watch.services.HasSynced() && p.log.count("experiments is interrupted") > 0 })
	if p.Ready(t.Context()) == nil {
		t.Error("ready before its experiments are known")
	}
	slow.Store(false)
	eventually(t, "ready", func() bool { return p.Ready(t.Context()) == nil })
	if p.experimentAt("like") == nil {
		t.Error("the first view has no experiment")
	}
}

// TestAClusterWithoutExperimentsIsServed tests a cluster without the resource, and one that does not let the edge read it. The log
// says so once. When experiments exist and can be read, they are in force.
func TestAClusterWithoutExperimentsIsServed(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]*metav1.Status{
		"no such resource": failure(http.StatusNotFound, metav1.StatusReasonNotFound),
		"no such right":    failure(http.StatusForbidden, metav1.StatusReasonForbidden),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPIServer(t)
			var there atomic.Bool
			var asked atomic.Int64
			s.refuse = func(r *http.Request) *metav1.Status {
				if strings.HasSuffix(r.URL.Path, "/experiments") && r.Method == http.MethodGet && !there.Load() {
					asked.Add(1)
					return status
				}
				return nil
			}
			s.start(t)
			p := startPod(t, s.config(), "")
			newOperator(t, s.config()).apply(knativeService("like", "/2/like"))
			eventually(t, "like is there", func() bool { return p.targetName("/2/like") == "like" })
			eventually(t, "it is tried again", func() bool { return asked.Load() >= 4 })
			if n := p.log.count("experiments is interrupted"); n != 1 {
				t.Errorf("said %d times: %s", n, p.log)
			}
			there.Store(true)
			newExperimenter(t, s.config()).apply(runningExperiment("likes", 5000, "like"))
			eventually(t, "the experiment", func() bool { return p.experimentAt("like") != nil })
		})
	}
}

// TestTrimmingKeepsTheRules sets every field of an Experiment.
func TestTrimmingKeepsTheRules(t *testing.T) {
	t.Parallel()
	for _, assignment := range []string{"slots", "list"} {
		e := new(rollout.Experiment)
		fill(reflect.ValueOf(&e.Spec).Elem())
		fill(reflect.ValueOf(&e.Status).Elem())
		e.Name, e.Generation, e.Spec.Assignment = "likes", 7, assignment
		e.Spec.Layer.Slots = []int{5, 50}
		e.Status.Phase = experiment.Warming // the phase in which a baseline is counted
		e.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
		for _, end := range []experiment.End{"", experiment.Stopped} {
			e.Spec.End = end
			trimmed, err := trimExperiment(e.DeepCopy())
			if err != nil {
				t.Fatal(err)
			}
			held := trimmed.(*rollout.Experiment)
			if diff := cmp.Diff(e.Rules(), held.Rules()); diff != "" {
				t.Errorf("%s, %s: %s", assignment, end, diff)
			}
			deleted := e.DeepCopy()
			deleted.DeletionTimestamp = new(metav1.Now())
			if trimmed, err = trimExperiment(deleted); err != nil || trimmed.(*rollout.Experiment).Rules().Open != (experiment.Open{}) {
				t.Errorf("%s: it is deleted, and in force are %+v %v", end, trimmed.(*rollout.Experiment).Rules(), err)
			}
			if held.ManagedFields != nil || held.Spec.Treatment.Env != nil || held.Spec.Metrics.Secondary != nil || held.Status.Bases != nil {
				t.Errorf("held is %+v", held)
			}
		}
	}
}

// fill sets every field to a value that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type().PkgPath() != "" && !strings.HasPrefix(v.Type().PkgPath(), "warble/") {
			return // a time, for example
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1)
	default:
		v.SetInt(1)
	}
}
