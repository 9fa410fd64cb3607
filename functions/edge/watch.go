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
	// resync is how often failed reports are tried again.
	resync = time.Minute
)

// watch updates the routes from the Knative Services and the Experiments of one namespace, and the limits from the number of edge
// pods. It keeps only the fields that it reads. Without an API server, nothing changes.
type watch struct {
	edge    string // the name of the edge's own Service
	routes  *routes
	divide  func(replicas int)
	reports *reports
	log     zerolog.Logger
	outages outages

	services, revisions, experiments cache.SharedIndexInformer

	noExperiments atomic.Bool   // the API server does not know Experiments, or this edge may not read them
	changed       chan struct{} // holds one signal: an object has changed since the last view
	wished        chan struct{} // holds one signal: the spec of an experiment has changed
}

func inCluster(e *env.Reader) bool { return e.String("KUBERNETES_SERVICE_HOST", "") != "" }

// watchFromEnv returns a watch; nil outside a cluster, where KUBERNETES_SERVICE_HOST is not set.
func watchFromEnv(e *env.Reader, r *routes, divide func(replicas int)) *watch {
	if !inCluster(e) {
		return nil
	}
	klog.SetSlogLogger(slog.New(zerolog.NewSlogHandler(r.log))) // client-go's log lines, in the same format as ours
	config, namespace, err := knative.Inside()
	var w *watch
	if err == nil {
		w, err = newWatch(config, namespace, e.String("K_SERVICE", "edge"), r, divide)
	}
	if err != nil {
		e.Reject("KUBERNETES_SERVICE_HOST", e.String("KUBERNETES_SERVICE_HOST", ""),
			"a service account with automountServiceAccountToken: true in a cluster, or no such variable outside a cluster: "+err.Error())
		return nil
	}
	return w
}

// newWatch returns a watch of namespace. edge is the name of the edge's own Knative Service.
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
	w.services, err = inform(w, w.answerLogger("Knative's services"), knative.Services(namespace), "", &servingv1.Service{}, trimService)
	if err != nil {
		return nil, err
	}
	w.revisions, err = inform(w, w.answerLogger("Knative's revisions"), knative.Revisions(namespace), serving.ServiceLabelKey+"="+edge, &servingv1.Revision{}, trimRevision)
	if err != nil {
		return nil, err
	}
	logAnswer := w.answerLogger("experiments")
	w.experiments, err = inform(w, func(err error) {
		w.noExperiments.Store(apierrors.IsNotFound(err) || apierrors.IsForbidden(err))
		logAnswer(err)
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

// signal puts a signal into a channel with room for one. Signals that nobody has received yet become one.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default: // a signal is waiting already
	}
}

const (
	// wishTries is how often the edge asks steer to move experiments, with wishPause between tries. Steer moves them each minute
	// anyway.
	wishTries = 3
	wishPause = 2 * time.Second
)

// forwardWishes asks steer to act on each changed wish, until ctx ends.
func (w *watch) forwardWishes(ctx context.Context, ask func(context.Context) error) error {
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
				w.log.Warn().Err(err).Msg("cannot ask steer to move experiments: steer will check them within a minute")
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
		return nil // ctx ended before the first view
	}
	w.awaitExperiments(ctx)
	for {
		w.updateRoutes(ctx)
		w.updateReplicas()
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
		}
	}
}

// awaitExperiments delays the first view until it includes the experiments. Otherwise users of an experiment would be untouched for
// a moment each time an edge starts. It does not wait if the API server does not know the resource Experiment or does not let the
// edge read it, and never longer than firstView.
func (w *watch) awaitExperiments(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstView)
	defer cancel()
	cache.WaitForCacheSync(ctx.Done(), func() bool { return w.experiments.HasSynced() || w.noExperiments.Load() })
}

// updateRoutes makes a table from the present Services and Experiments. If two new Services claim the same path, the older one gets
// it, so that all replicas agree. If two Experiments claim the same Service, the older one always gets it.
func (w *watch) updateRoutes(ctx context.Context) {
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

// updateReplicas divides the limits by the number of ready pods of all revisions of the edge, as counted by Knative.
func (w *watch) updateReplicas() {
	replicas := 0
	for _, r := range objects[*servingv1.Revision](w.revisions) {
		if r.Status.ActualReplicas != nil {
			replicas += int(*r.Status.ActualReplicas)
		}
	}
	if replicas > 0 { // 0 means unknown, because this pod is one of them
		w.divide(replicas)
	}
}

// client has the methods that the clients of all kinds share.
type client[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (k8swatch.Interface, error)
}

// inform returns an informer of the objects that match selector. onAnswer receives the result of each request to the API server.
func inform[L runtime.Object](w *watch, onAnswer func(error), c client[L], selector string, example runtime.Object, trim cache.TransformFunc) (cache.SharedIndexInformer, error) {
	informer := cache.NewSharedIndexInformerWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = selector
			list, err := c.List(ctx, options)
			onAnswer(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (k8swatch.Interface, error) {
			options.LabelSelector = selector
			events, err := c.Watch(ctx, options)
			onAnswer(err)
			return events, err
		},
	}, example, cache.SharedIndexInformerOptions{ResyncPeriod: resync})
	if err := informer.SetTransform(trim); err != nil {
		return nil, err
	}
	// onAnswer has logged the errors, including those that an informer does not pass on.
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

// answerLogger returns a function that logs answers of the API server about a kind. It logs only changes.
func (w *watch) answerLogger(kind string) (heard func(error)) {
	last := "" // not guarded, because an informer makes one request at a time
	return func(err error) {
		w.outages.note(kind, err)
		now := fmt.Sprint(err)
		if urlErr, ok := errors.AsType[*url.Error](err); ok {
			now = urlErr.Err.Error() // without the URL, which is different each time
		}
		if now == last {
			return
		}
		switch {
		case err != nil:
			w.log.Warn().Err(err).Msg("watch of " + kind + " is interrupted: the last view stays in force")
		case last != "":
			w.log.Info().Msg("watch of " + kind + " works again")
		}
		last = now
	}
}

// byAge returns the objects of an informer, the oldest first.
func byAge[T metav1.Object](informer cache.SharedIndexInformer) []T {
	all := objects[T](informer)
	slices.SortFunc(all, func(a, b T) int {
		older := a.GetCreationTimestamp()
		return cmp.Or(older.Compare(b.GetCreationTimestamp().Time), strings.Compare(a.GetName(), b.GetName()))
	})
	return all
}

func objects[T any](informer cache.SharedIndexInformer) []T {
	var all []T
	for _, object := range informer.GetStore().List() {
		all = append(all, object.(T)) // the informer has no other type
	}
	return all
}
