package rollout

import (
	"context"
	"errors"
	"time"

	"warble/shared/experiment"
)

// Cluster is where the arms run: Knative, or a program that starts processes. Every update is by version: it fails with
// ErrConflict where somebody else has written meanwhile.
type Cluster interface {
	Experiments(ctx context.Context) ([]Experiment, error)
	// Experiment returns ErrNotFound where there is none of that name.
	Experiment(ctx context.Context, name string) (*Experiment, error)
	// UpdateStatus writes e.Status, and nothing else of e.
	UpdateStatus(ctx context.Context, e *Experiment) error
	// UpdateFinalizers writes e.Finalizers, and nothing else of e. One that is deleted goes with its last.
	UpdateFinalizers(ctx context.Context, e *Experiment) error

	// Service returns ErrNotFound where there is none of that name.
	Service(ctx context.Context, name string) (*Service, error)
	// UpdateService writes Template and Traffic. What the two do not show of a Service stays as it is. A template that has
	// changed makes a revision.
	UpdateService(ctx context.Context, s *Service) error
	// Revision returns ErrNotFound where there is none of that name.
	Revision(ctx context.Context, name string) (Revision, error)
	// Answers asks a Service by one of its tags, and returns which revision has answered.
	Answers(ctx context.Context, service, tag string) (revision string, err error)

	// Lock keeps all others, of this process or not, from reconciling the experiment until it is released, or life has
	// passed. ErrLocked where another has it.
	Lock(ctx context.Context, experiment string, life time.Duration) (release func(), err error)
}

// What a Cluster's errors are known by.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed meanwhile")
	ErrLocked   = errors.New("another reconciles it")
)

// Service is what Reconcile reads and writes of a Knative Service.
type Service struct {
	Name     string
	Template Template
	Traffic  []Target // that is wished

	// What the cluster says, which UpdateService ignores.
	Ready   string // the newest revision that is ready
	Current bool   // and that is the one of Template
	Routed  bool   // Traffic is in force
	Object  any    // the cluster's own, with its version
}

// Template is what two arms differ in.
type Template struct {
	Revision string // the name that its revision gets; empty where the cluster draws one
	Image    string
	Env      map[string]string
	// Elsewhere are the variables whose values are a secret's or a config map's: they stay.
	Elsewhere []string
}

// Target is a part of a Service's traffic: percent of the requests, and those to the tag, where there is one.
//
// +kubebuilder:object:generate=true
type Target struct {
	Tag      string `json:"tag,omitempty"`
	Revision string `json:"revision,omitempty"`
	Latest   bool   `json:"latest,omitempty"` // the newest that is ready; Revision is empty then, but where it is in force
	Percent  int64  `json:"percent,omitempty"`
}

// Revision is how a revision does.
type Revision struct {
	Ready bool
	// Failed is why it is not ready, as far as the cluster has given up on it for now, in the words of its pod where that has
	// any; empty while it may just take its time.
	Failed string
}

// Store is where what happened is kept: *store.DB.
type Store interface {
	// StartExperiment keeps what an experiment is started as. A second time it changes nothing; problem.Conflict where
	// another of that name, with another salt or concluded, has been started before.
	StartExperiment(ctx context.Context, s experiment.Start) error
	// Transition keeps a step of its life, and sends it as an event, once by its id.
	Transition(ctx context.Context, name string, t experiment.Transition) error
	// ArchiveExperiment sweeps the rows of single users and windows.
	ArchiveExperiment(ctx context.Context, name string, at time.Time) error
}

// Readout judges experiments by what is stored of them.
type Readout interface {
	// Plan returns N*, the units of both arms together after which a verdict is due.
	Plan(ctx context.Context, s experiment.Spec) (units int64, err error)
	// Judge reads a started experiment. Where it cannot, the experiment holds.
	Judge(ctx context.Context, name string, now time.Time) (experiment.Verdict, error)
}
