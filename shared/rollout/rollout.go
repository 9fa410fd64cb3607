package rollout

import (
	"context"
	"errors"
	"time"

	"warble/shared/experiment"
)

// Cluster is where the arms run: Knative, or a program that starts processes. It writes only objects that the experiment owns. The one
// exception is GiveTreatment. Every update names the version that was read, and fails with ErrConflict if somebody else has written the
// object since.
type Cluster interface {
	Namespace(ctx context.Context) (Namespace, error)
	Experiments(ctx context.Context) ([]Experiment, error)
	// Experiment returns ErrNotFound if no experiment has that name.
	Experiment(ctx context.Context, name string) (*Experiment, error)
	// Metrics returns the Metric resources. If the cluster does not know that kind, there are none.
	Metrics(ctx context.Context) ([]Metric, error)
	// UpdateStatus writes e.Status, and nothing else of e.
	UpdateStatus(ctx context.Context, e *Experiment) error

	// Services returns all Services of the namespace. Image is read only for those named in detailed.
	Services(ctx context.Context, detailed []string) ([]*Service, error)
	// Arms returns the arms of e that exist, by Service. A Service without arms is left out.
	Arms(ctx context.Context, e *Experiment) (map[string]*Arms, error)
	// MakeArm makes an arm. If the arm exists, it gets a new revision. Errors: ErrTaken if another object has its name.
	MakeArm(ctx context.Context, e *Experiment, arm Arm) error
	// PutRoute makes the route to both arms, or changes where it leads. Errors: ErrTaken, as for MakeArm.
	PutRoute(ctx context.Context, e *Experiment, route Route) error
	// RemoveRoute and RemoveArms delete what exists. It is no error if nothing exists.
	RemoveRoute(ctx context.Context, e *Experiment, service string) error
	RemoveArms(ctx context.Context, e *Experiment, service string) error
	// Answers sends a request to a host of an arm, and returns the revision that has answered.
	Answers(ctx context.Context, host string) (revision string, err error)

	// GiveTreatment writes the treatment into the template of a Service. The Service must not have changed since it was read.
	GiveTreatment(ctx context.Context, s *Service, env map[string]string, image string) error
	// RecordEvent records a Kubernetes Event about the experiment, for people.
	RecordEvent(ctx context.Context, e *Experiment, event Event) error
}

// The errors of a Cluster that callers distinguish.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed meanwhile")
	ErrTaken    = errors.New("it does not belong to the experiment")
)

// Namespace is where the experiments are. Another UID means another cluster, or a cluster that was rebuilt.
type Namespace struct {
	UID         string
	Terminating bool
}

// Service has the facts about a Knative Service on which moves depend.
type Service struct {
	Name string
	UID  string

	Created string // the newest revision
	Ready   string // the newest revision that is ready
	Settled bool   // the status has observed the spec, and the newest revision is ready
	Latest  bool   // all traffic goes to the newest revision, in the spec and in the status

	Image     string            // of Ready, by digest
	Wished    string            // the image in the template, as it is written there
	Env       map[string]string // variables of the template that have a value
	Elsewhere []string          // variables of the template that come from a secret or a config map
	Timeout   time.Duration     // of one request
	MostPods  int               // its max-scale; 0 if it has none, so that nothing limits its pods
	Pool      int               // how many connections to the database one pod may open; 0 if it has no database

	// Experiments says in which experiments the Service can take part: "" in any; "request" only with unit request, because it can record
	// neither who was exposed nor how long a request took; "none" in none, because the edge sends it no requests.
	Experiments string
	// Guest reports whether the Service does not belong to Warble. A guest's answers name no revision, and the edge records who was
	// exposed and how long a request took.
	Guest bool
	// Manager is the tool that keeps applying the Service, such as Flux; empty if there is none.
	Manager string

	Object any // the cluster's own object, with its version
}

// Arms is the state of one Service's arms.
type Arms struct {
	Control, Treatment *ArmState   // nil if the arm does not exist
	Route              *RouteState // nil if the route does not exist
}

// state returns the state of one arm; nil if the arm does not exist.
func (a *Arms) state(arm experiment.Arm) *ArmState {
	switch {
	case a == nil:
		return nil
	case arm == experiment.Treatment:
		return a.Treatment
	}
	return a.Control
}

// ArmState is the state of an arm that exists.
type ArmState struct {
	Source   string // the Arm.Source by which it was made
	Revision string // its newest revision; empty if it has none yet
	Ready    bool   // whether that revision can serve
	// Failed is why the arm is not ready, in the words of its pod if the pod has any. It is empty while the arm may only need more time.
	Failed string
}

// RouteState is the state of a route that exists.
type RouteState struct {
	Control, Treatment string // the revisions in its spec
	Percent            int    // of the requests without a tag, to the treatment
	InForce            bool
	Reach              experiment.Reach // set once InForce is
}

// Arm describes an arm to be made: a copy of a revision of the Service, with an image and additional variables.
type Arm struct {
	Service string
	Arm     experiment.Arm
	Base    string // the revision
	Image   string
	Env     map[string]string
	Source  string // the base and the number of rebases: an arm with another Source must be made again
}

// Route describes the route to both arms of a Service.
type Route struct {
	Service            string
	Control, Treatment string // revisions
	Percent            int    // of the requests without a tag, to the treatment; the others go to control
}

// Event is a message about an experiment. Reason is one word. Warning says whether a person should look.
type Event struct {
	Reason, Message string
	Warning         bool
}

// Store is the database: *store.DB.
type Store interface {
	// StartExperiment stores the start of an experiment. If the start is stored already, it changes only the cluster to which the
	// experiment belongs. Errors: problem.Conflict if an experiment of that name, with another salt or concluded, was started
	// before.
	StartExperiment(ctx context.Context, s experiment.Start) error
	// StartedBefore returns what the database knows about the experiment of that name; nil if nothing.
	StartedBefore(ctx context.Context, name string) (*experiment.Past, error)
	// LiveExperiments returns the experiments of a namespace that have started and not concluded.
	LiveExperiments(ctx context.Context, namespace string) ([]experiment.Past, error)
	// Transition stores a transition and sends it as an event; only once for each of its ids.
	Transition(ctx context.Context, name string, t experiment.Transition) error
	// Suspension returns why the edges have found the treatment at fault; "" if they have not, or if they did so before the
	// time since.
	Suspension(ctx context.Context, name string, since time.Time) (why string, err error)
	// KeepMetrics replaces the metrics for which events are stored.
	KeepMetrics(ctx context.Context, own []experiment.Metric) error
	// ArchiveExperiment deletes the rows of single users and of count periods.
	ArchiveExperiment(ctx context.Context, name string, at time.Time) error
}

// Readout judges experiments by what the database has about them.
type Readout interface {
	// Plan returns N*, the units of both arms together after which a verdict is due. own are the event metrics in the cluster. A spec whose
	// metric is neither one of them nor one of Warble's is an error.
	Plan(ctx context.Context, s experiment.Spec, own []experiment.Metric) (units int64, err error)
	// Judge judges an experiment that has started. If it fails, the experiment stays at its step.
	Judge(ctx context.Context, name string, now time.Time) (experiment.Judgement, error)
}
