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
)

// Lock is of a Cluster. The lock is a Lease of the experiment's name, after experiment-.
func (k *Knative) Lock(ctx context.Context, experiment string, life time.Duration) (release func(), err error) {
	leases, now := k.leases.Leases(k.namespace), metav1.NowMicro()
	holder := k.holder + "-" + rand.Text() // this call, for another of this process is another
	seconds := int32(life.Seconds())
	first := false
	lease, err := leases.Get(ctx, "experiment-"+experiment, metav1.GetOptions{})
	switch err = failure(err); {
	case errors.Is(err, ErrNotFound):
		first, lease = true, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "experiment-" + experiment, Namespace: k.namespace}}
	case err != nil:
		return nil, err
	case held(lease, now.Time):
		return nil, ErrLocked
	}
	lease.Spec.HolderIdentity, lease.Spec.AcquireTime, lease.Spec.RenewTime, lease.Spec.LeaseDurationSeconds = &holder, &now, &now, &seconds
	if first {
		lease, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	} else {
		lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err = failure(err); errors.Is(err, ErrConflict) {
		return nil, ErrLocked
	} else if err != nil {
		return nil, err
	}
	return func() {
		const patience = 5 * time.Second
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		lease.Spec.HolderIdentity = nil
		_, _ = leases.Update(ctx, lease, metav1.UpdateOptions{}) // or it passes with its life
	}, nil
}

func held(l *coordinationv1.Lease, now time.Time) bool {
	s := l.Spec
	return s.HolderIdentity != nil && *s.HolderIdentity != "" && s.RenewTime != nil && s.LeaseDurationSeconds != nil &&
		now.Before(s.RenewTime.Add(time.Duration(*s.LeaseDurationSeconds)*time.Second))
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
