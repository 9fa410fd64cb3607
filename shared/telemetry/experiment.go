package telemetry

import (
	"strconv"
	"time"
)

// maxArms is how many arms, of all experiments together, have their own histogram in one process.
const maxArms = 50

// ExperimentMetrics has the edge's counts per arm, as users see the answers. They are for dashboards and alerts: an experiment is
// judged by rows in the database.
type ExperimentMetrics struct {
	requests *Counter
	duration *Histogram
}

// ExperimentMetrics registers the metrics of arms.
func (t *Telemetry) ExperimentMetrics() *ExperimentMetrics {
	return &ExperimentMetrics{
		t.Counter("warble_experiment_requests_total", "Requests that an arm of an experiment answered, by status code.", "experiment", "arm", "code"),
		t.Histogram("warble_experiment_request_duration_seconds", "How long requests to an arm of an experiment took at the edge.", buckets, maxArms, "experiment", "arm"),
	}
}

// Answered counts one answer.
func (m *ExperimentMetrics) Answered(experiment, arm string, status int, took time.Duration) {
	m.requests.Inc(experiment, arm, strconv.Itoa(status))
	m.duration.Observe(took.Seconds(), experiment, arm)
}
