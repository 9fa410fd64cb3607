package rollout

import (
	"context"
	"errors"
	"time"

	"warble/shared/experiment"
)

// Cluster is where the arms run: Knative, or a program that starts processes. It writes only what is the experiment's own,
// but for GiveService. Every update is by version: it fails with ErrConflict where somebody else has written meanwhile.
type Cluster interface {
	Namespace(ctx context.Context) (Namespace, error)
	Experiments(ctx context.Context) ([]Experiment, error)
	// Experiment returns ErrNotFound where there is none of that name.
	Experiment(ctx context.Context, name string) (*Experiment, error)
	// Metrics are those of people's own. A cluster that does not have their resource has none.
	Metrics(ctx context.Context) ([]Metric, error)
	// UpdateStatus writes e.Status, and nothing else of e.
	UpdateStatus(ctx context.Context, e *Experiment) error

	// Services are all of the namespace; Image is read of those that are detailed.
	Services(ctx context.Context, detailed []string) ([]*Service, error)
	// Arms returns what there is of the arms of e, by Service; one that has nothing is left out.
	Arms(ctx context.Context, e *Experiment) (map[string]*Arms, error)
	// MakeArm makes an arm, or makes it anew where it is there, which is another revision. ErrTaken where something else has
	// its name.
	MakeArm(ctx context.Context, e *Experiment, arm Arm) error
	// PutRoute makes the way to both arms, or changes where it leads. ErrTaken as MakeArm.
	PutRoute(ctx context.Context, e *Experiment, route Route) error
	// RemoveRoute and RemoveArms take away what there is of them; that there is nothing is no error.
	RemoveRoute(ctx context.Context, e *Experiment, service string) error
	RemoveArms(ctx context.Context, e *Experiment, service string) error
	// Answers asks a host of an arm, and returns which revision has answered.
	Answers(ctx context.Context, host string) (revision string, err error)

	// GiveService writes the treatment into the template of a Service, as it was read.
	GiveService(ctx context.Context, s *Service, env map[string]string, image string) error
	// Tell records an Event of the experiment, for whoever looks at it.
	Tell(ctx context.Context, e *Experiment, event Event) error
}

// What a Cluster's errors are known by.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed meanwhile")
	ErrTaken    = errors.New("it is somebody else's")
)

// Namespace is where the experiments are. Another UID is another cluster, or one that was built anew.
type Namespace struct {
	UID         string
	Terminating bool
}

// Service is what is read of a Knative Service.
type Service struct {
	Name string
	UID  string

	Created string // the newest revision
	Ready   string // the newest that is ready
	Settled bool   // the status is of the spec, and the newest revision is ready
	Latest  bool   // all traffic goes to the newest, as it is wished and as it is

	Image     string            // of Ready, by digest
	Wished    string            // the image of the template, as it is written
	Env       map[string]string // of the template, those with a value
	Elsewhere []string          // variables of the template whose values are a secret's or a config map's
	Timeout   time.Duration     // of one request
	MostPods  int               // its max-scale; 0 where it has none, and nothing limits it
	Pool      int               // how many connections to the database one pod may open; 0 where it has no database

	// Experiments is what the Service says of itself: "" takes part in any, "request" cannot tell who was exposed nor how long a
	// request took, "none" has no callers that the edge could send to an arm.
	Experiments string
	// Guest is a Service that is not Warble's: its answers name no revision, and the edge records who was exposed and how long a
	// request took.
	Guest bool
	// Manager is what applies the Service again and again, as Flux; empty where nothing does.
	Manager string

	Object any // the cluster's own, with its version
}

// Arms is what there is of one Service's arms.
type Arms struct {
	Control, Treatment *Made // nil where there is none
	Route              *Way  // nil where there is none
}

func (a *Arms) of(arm experiment.Arm) *Made {
	switch {
	case a == nil:
		return nil
	case arm == experiment.Treatment:
		return a.Treatment
	}
	return a.Control
}

// Made is an arm that is there.
type Made struct {
	Of       string // the Arm.Of that it was made by
	Revision string // its newest; empty as long as there is none
	Ready    bool   // and that can serve
	// Failed is why it is not ready, as far as the cluster has given up on it for now, in the words of its pod where that has
	// any; empty while it may just take its time.
	Failed string
}

// Way is a route that is there.
type Way struct {
	Control, Treatment string // the revisions that it is to lead to
	Percent            int    // of the requests without a tag, to the treatment
	InForce            bool
	Reach              experiment.Reach // once it is in force
}

// Arm is an arm to be made: a copy of a revision of the Service, with another image and further variables.
type Arm struct {
	Service string
	Arm     experiment.Arm
	Base    string // the revision
	Image   string
	Env     map[string]string
	Of      string // names base and number of rebases, so that it is seen whether it has to be made anew
}

// Route is the way to both arms of a Service.
type Route struct {
	Service            string
	Control, Treatment string // revisions
	Percent            int    // of the requests without a tag, to the treatment; the others go to the control
}

// Event is told of an experiment. Reason is one word, Warning whether somebody should look.
type Event struct {
	Reason, Message string
	Warning         bool
}

// Store is where what happened is kept: *store.DB.
type Store interface {
	// StartExperiment keeps what an experiment is started as. A second time it changes nothing but to which cluster it
	// belongs; problem.Conflict where another of that name, with another salt or concluded, has been started before.
	StartExperiment(ctx context.Context, s experiment.Start) error
	// StartedBefore returns what there is of that name; nil where nothing is.
	StartedBefore(ctx context.Context, name string) (*experiment.Past, error)
	// LiveExperiments are those of a namespace that have started and not concluded.
	LiveExperiments(ctx context.Context, namespace string) ([]experiment.Past, error)
	// Transition keeps a step of its life, and sends it as an event, once by its id.
	Transition(ctx context.Context, name string, t experiment.Transition) error
	// Suspension returns why the edges have suspended the experiment for good; "" where they have not, or before since.
	Suspension(ctx context.Context, name string, since time.Time) (why string, err error)
	// KeepMetrics makes these the metrics by which events are taken.
	KeepMetrics(ctx context.Context, own []experiment.Metric) error
	// ArchiveExperiment sweeps the rows of single users and windows.
	ArchiveExperiment(ctx context.Context, name string, at time.Time) error
}

// Readout judges experiments by what is stored of them.
type Readout interface {
	// Plan returns N*, the units of both arms together after which a verdict is due. own are the metrics of people's own: a spec that
	// names one that is neither of them nor Warble's is an error.
	Plan(ctx context.Context, s experiment.Spec, own []experiment.Metric) (units int64, err error)
	// Judge reads a started experiment. Where it cannot, the experiment holds.
	Judge(ctx context.Context, name string, now time.Time) (experiment.Verdict, error)
}
