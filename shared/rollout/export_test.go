package rollout

import "time"

// SetAskLimit sets how long the driver waits for the answers of hosts. restore sets it back.
func SetAskLimit(limit time.Duration) (restore func()) {
	before := askLimit
	askLimit = limit
	return func() { askLimit = before }
}

// Order returns the names in the order in which a turn handles the experiments.
func (d *Driver) Order(experiments []Experiment) (names []string) {
	d.order(experiments)
	for i := range experiments {
		names = append(names, experiments[i].Name)
	}
	return names
}
