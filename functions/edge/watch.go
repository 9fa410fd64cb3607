package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	k8swatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	servingclient "knative.dev/serving/pkg/client/clientset/versioned/typed/serving/v1"

	"warble/shared/env"
	"warble/shared/knative"
	"warble/shared/rollout"
)

const (
	// resync is how often what could not be reported is tried again.
	resync = time.Minute
)

// watch keeps the routes at what the Knative Services of one namespace say, with the Experiments that are in force, and the
// limits at the number of edge pods. It holds of each object only what it reads, and while the API server is away nothing
// changes.
type watch struct {
	edge    string // the name of the edge's own Service
	routes  *routes
	divide  func(replicas int)
	reports *reports
	log     zerolog.Logger
	outages outages

	services, revisions, experiments cache.SharedIndexInformer

	noExperiments atomic.Bool   // the API server has none to give: it does not know them, or this edge may not read them
	changed       chan struct{} // holds one: some object has changed since it was last read from
	wished        chan struct{} // holds one: somebody wishes something else of an experiment
}

func inCluster(e *env.Reader) bool { return e.String("KUBERNETES_SERVICE_HOST", "") != "" }

// watchFromEnv returns nil outside of a cluster, which is where there is no KUBERNETES_SERVICE_HOST.
func watchFromEnv(e *env.Reader, r *routes, divide func(replicas int)) *watch {
	if !inCluster(e) {
		return nil
	}
	klog.SetSlogLogger(slog.New(zerolog.NewSlogHandler(r.log))) // client-go's own lines, in the form of ours
	config, namespace, err := knative.Inside()
	var w *watch
	if err == nil {
		w, err = newWatch(config, namespace, e.String("K_SERVICE", "edge"), r, divide)
	}
	if err != nil {
		e.Reject("KUBERNETES_SERVICE_HOST", e.String("KUBERNETES_SERVICE_HOST", ""),
			"a service account with automountServiceAccountToken: true in a cluster, or no such variable outside: "+err.Error())
		return nil
	}
	return w
}

// newWatch watches namespace, where the edge itself is the Knative Service of the name edge.
func newWatch(config *rest.Config, namespace, edge string, r *routes, divide func(replicas int)) (*watch, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	knative, err := servingclient.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, err
	}
	reports, err := newReports(config, client, namespace, r.log)
	if err != nil {
		return nil, err
	}
	w := &watch{edge: edge, routes: r, divide: divide, reports: reports, log: r.log, changed: make(chan struct{}, 1), wished: make(chan struct{}, 1)}
	experiments, err := newExperimentsClient(config, client, namespace)
	if err != nil {
		return nil, err
	}
	w.services, err = inform(w, w.listener("Knative's services"), knative.Services(namespace), "", &servingv1.Service{}, trimService)
	if err != nil {
		return nil, err
	}
	w.revisions, err = inform(w, w.listener("Knative's revisions"), knative.Revisions(namespace), serving.ServiceLabelKey+"="+edge, &servingv1.Revision{}, trimRevision)
	if err != nil {
		return nil, err
	}
	heard := w.listener("experiments")
	w.experiments, err = inform(w, func(err error) {
		w.noExperiments.Store(apierrors.IsNotFound(err) || apierrors.IsForbidden(err))
		heard(err)
	}, experiments, "", &rollout.Experiment{}, trimExperiment)
	if err != nil {
		return nil, err
	}
	_, err = w.experiments.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { signal(w.wished) },
		UpdateFunc: func(before, after any) {
			if before.(*rollout.Experiment).Generation != after.(*rollout.Experiment).Generation {
				signal(w.wished)
			}
		},
	})
	return w, err
}

// signal says something once, however often it is said before it is heard.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default: // it is already said
	}
}

const (
	// wishTries is how often whoever moves experiments is asked to, and wishPause what lies between: its own clock asks it
	// each minute.
	wishTries = 3
	wishPause = 2 * time.Second
)

// pass has wishes looked at now, until ctx ends.
func (w *watch) pass(ctx context.Context, ask func(context.Context) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wished:
		}
		for try := 1; ; try++ {
			err := ask(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			if try == wishTries {
				w.log.Warn().Err(err).Msg("nobody could be asked to move experiments: they are looked at within the minute")
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(wishPause):
			}
		}
	}
}

// run watches until ctx ends.
func (w *watch) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { w.services.RunWithContext(ctx) })
	running.Go(func() { w.revisions.RunWithContext(ctx) })
	running.Go(func() { w.experiments.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), w.services.HasSynced) {
		return nil // over before there was a view
	}
	w.awaitExperiments(ctx)
	for {
		w.route(ctx)
		w.count()
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
		}
	}
}

// awaitExperiments keeps the first view back until the experiments are in it: whoever is in one would have untouched
// traffic for a moment each time that an edge starts. A cluster that has none is not waited for, nor one that cannot say.
func (w *watch) awaitExperiments(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstView)
	defer cancel()
	cache.WaitForCacheSync(ctx.Done(), func() bool { return w.experiments.HasSynced() || w.noExperiments.Load() })
}

// route makes a table of the Services and Experiments as they are. Of two that are new and claim one path, the older has
// it, so that all replicas agree; of two Experiments that claim one Service, always the older.
func (w *watch) route(ctx context.Context) {
	services, experiments := byAge[*servingv1.Service](w.services), byAge[*rollout.Experiment](w.experiments)
	w.routes.mu.Lock()
	before := w.routes.current.Load()
	if before == nil {
		before = new(table)
	}
	var (
		v       view
		refused []*refusal
	)
	for _, e := range experiments {
		v.experiments = append(v.experiments, e.Rules())
	}
	for _, s := range services {
		if s.Name == w.edge {
			v.ownTags = ownTagsOf(s)
		}
		to, err := targetOf(s, before.targets[s.Name])
		if err != nil {
			refused = append(refused, &refusal{fmt.Errorf("%s: %w", s.Name, err), subject{kindService, s.Name}})
		}
		if to != nil {
			v.targets = append(v.targets, to)
		}
	}
	w.routes.watched = true
	refused = append(refused, refusals(w.routes.replace(v))...)
	w.routes.mu.Unlock()
	w.reports.report(ctx, involved(services, experiments), refused)
}

// count divides the limits by the pods of the edge that are ready, of all its revisions, as Knative counts them.
func (w *watch) count() {
	replicas := 0
	for _, r := range contents[*servingv1.Revision](w.revisions) {
		if r.Status.ActualReplicas != nil {
			replicas += int(*r.Status.ActualReplicas)
		}
	}
	if replicas > 0 { // or nothing is known, for this pod is one of them
		w.divide(replicas)
	}
}

// client is what the clients of all kinds have in common.
type client[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (k8swatch.Interface, error)
}

// inform returns an informer of the objects that selector finds. heard is told how each question to the API server ended.
func inform[L runtime.Object](w *watch, heard func(error), c client[L], selector string, example runtime.Object, trim cache.TransformFunc) (cache.SharedIndexInformer, error) {
	informer := cache.NewSharedIndexInformerWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = selector
			list, err := c.List(ctx, options)
			heard(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (k8swatch.Interface, error) {
			options.LabelSelector = selector
			events, err := c.Watch(ctx, options)
			heard(err)
			return events, err
		},
	}, example, cache.SharedIndexInformerOptions{ResyncPeriod: resync})
	if err := informer.SetTransform(trim); err != nil {
		return nil, err
	}
	// Errors have been logged by heard, those too of which an informer says nothing.
	if err := informer.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {}); err != nil {
		return nil, err
	}
	change := func() { signal(w.changed) }
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { change() },
		UpdateFunc: func(any, any) { change() },
		DeleteFunc: func(any) { change() },
	})
	return informer, err
}

// listener logs what the API server answers where that changes, once for as long as it stays the same.
func (w *watch) listener(kind string) (heard func(error)) {
	last := "" // an informer asks one thing at a time
	return func(err error) {
		w.outages.heard(kind, err)
		now := fmt.Sprint(err)
		if of, ok := errors.AsType[*url.Error](err); ok {
			now = of.Err.Error() // the URL is another each time
		}
		if now == last {
			return
		}
		switch {
		case err != nil:
			w.log.Warn().Err(err).Msg("watch of " + kind + " is interrupted: what was last seen stays in force")
		case last != "":
			w.log.Info().Msg("watch of " + kind + " goes on")
		}
		last = now
	}
}

// byAge returns what an informer holds, the oldest first.
func byAge[T metav1.Object](informer cache.SharedIndexInformer) []T {
	all := contents[T](informer)
	slices.SortFunc(all, func(a, b T) int {
		older := a.GetCreationTimestamp()
		return cmp.Or(older.Compare(b.GetCreationTimestamp().Time), strings.Compare(a.GetName(), b.GetName()))
	})
	return all
}

func contents[T any](informer cache.SharedIndexInformer) []T {
	var all []T
	for _, object := range informer.GetStore().List() {
		all = append(all, object.(T)) // the informer holds nothing else
	}
	return all
}
