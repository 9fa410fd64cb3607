package rollout

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Lock is of a Cluster. The lock is a Lease of the experiment's name, after experiment-.
func (k *Knative) Lock(ctx context.Context, experiment string, life time.Duration) (release func(), err error) {
	now := metav1.NowMicro()
	holder := k.holder + "-" + rand.Text() // this call, for another of this process is another
	seconds := int32(life.Seconds())
	name := "experiment-" + experiment
	lease := new(coordinationv1.Lease)
	do := func(ctx context.Context, request *rest.Request) error {
		return failure(request.Namespace(k.namespace).Resource("leases").Do(ctx).Into(lease))
	}
	update := func(ctx context.Context) error { return do(ctx, k.leases.Put().Name(name).Body(lease)) }
	write := update
	switch err = do(ctx, k.leases.Get().Name(name)); {
	case errors.Is(err, ErrNotFound):
		lease.Name, lease.Namespace = name, k.namespace
		write = func(ctx context.Context) error { return do(ctx, k.leases.Post().Body(lease)) }
	case err != nil:
		return nil, err
	case held(lease, now.Time):
		return nil, ErrLocked
	}
	lease.Spec.HolderIdentity, lease.Spec.AcquireTime, lease.Spec.RenewTime, lease.Spec.LeaseDurationSeconds = &holder, &now, &now, &seconds
	if err = write(ctx); errors.Is(err, ErrConflict) {
		return nil, ErrLocked
	} else if err != nil {
		return nil, err
	}
	return func() {
		const patience = 5 * time.Second
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		lease.Spec.HolderIdentity = nil
		_ = update(ctx) // or it passes with its life
	}, nil
}

func held(l *coordinationv1.Lease, now time.Time) bool {
	s := l.Spec
	return s.HolderIdentity != nil && *s.HolderIdentity != "" && s.RenewTime != nil && s.LeaseDurationSeconds != nil &&
		now.Before(s.RenewTime.Add(time.Duration(*s.LeaseDurationSeconds)*time.Second))
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
