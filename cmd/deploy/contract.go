package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"warble/shared/store"
	"warble/shared/store/migrations"
)

// refuseOldArms returns an error if a migration would break the code of a live experiment's arms. A migration that contracts names the oldest
// code that works with it. Each revision names the newest migration that its code knows.
func (d *deployment) refuseOldArms(ctx context.Context, s settings) error {
	at, err := s.migrated(ctx)
	if err != nil {
		return err
	}
	contractions, err := migrations.Contractions(d.migrations, at)
	if err != nil || len(contractions) == 0 {
		return err
	}
	strictest := slices.MaxFunc(contractions, func(a, b migrations.Contraction) int { return cmp.Compare(a.Serves, b.Serves) })
	all, err := d.readExperiments(ctx)
	if err != nil {
		return err
	}
	known, err := d.schemas(ctx)
	if err != nil {
		return err
	}
	var mistakes []error
	for _, x := range all {
		if old := x.olderThan(strictest.Serves, known); x.Status.Phase.Live() && len(old) > 0 {
			name := x.Metadata.Name
			mistakes = append(mistakes, fmt.Errorf(
				"%s needs code that knows migration %d, and the experiment %s has arms with older code (%s). "+
					"If its Services run newer code, rebase it (kn experiment rebase %s). Otherwise stop it (kn experiment stop %s)",
				strictest.File, strictest.Serves, name, strings.Join(old, ", "), name, name))
		}
	}
	return errors.Join(mistakes...)
}

// migrated returns the newest migration that was applied to the database. Without DATABASE_DIRECT_URL this is not known, and migrated returns
// 0, so that every migration is checked.
func (s settings) migrated(ctx context.Context) (int, error) {
	if s.direct == nil {
		return 0, nil
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is pending on it
	return store.Version(ctx, conn)
}

// schemas returns the newest migration that each revision's code knows, by revision. A revision without the annotation is left out: it was
// made by an earlier release, or without make deploy.
func (d *deployment) schemas(ctx context.Context) (map[string]int, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Name        string
				Annotations map[string]string
			}
		}
	}
	if err := unlessNotFound(d.cluster.List(ctx, &list, "serving.knative.dev/v1/revisions", "")); err != nil {
		return nil, err
	}
	known := make(map[string]int)
	for _, r := range list.Items {
		if migration, err := strconv.Atoi(r.Metadata.Annotations[schemaAnnotation]); err == nil {
			known[r.Metadata.Name] = migration
		}
	}
	return known, nil
}

// olderThan returns the arms' revisions whose code does not know a migration, each with the migration that it knows. If the arms are not made
// yet, it checks the revisions from which they will be copied.
func (x *experimentState) olderThan(migration int, known map[string]int) (old []string) {
	var revisions []string
	for _, s := range x.Status.Assign.Services {
		revisions = append(revisions, s.Control.Revision, s.Treatment.Revision)
	}
	if len(revisions) == 0 {
		for _, base := range x.Status.Bases {
			revisions = append(revisions, base.Revision)
		}
	}
	for _, name := range revisions {
		switch knows, annotated := known[name]; {
		case !annotated:
			old = append(old, name+" of an unknown migration")
		case knows < migration:
			old = append(old, fmt.Sprintf("%s of migration %d", name, knows))
		}
	}
	return old
}
