package readout

import (
	"fmt"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/store"
)

const (
	// mostParts is the largest number of parts into which a window is divided.
	mostParts = 14
	// daysOf is the approximate number of users whose values are read by day. A sample is enough for a description, and
	// leaves time for the rest of the readout.
	daysOf = 40_000
)

// readDays reads the primary metric by day since entry, for units that have completed.
func (r *reading) readDays() error {
	days := int(r.window / day)
	if r.Spec.Unit == experiment.Request || days < 2 {
		return nil
	}
	metric, err := store.OfUsers(r.Spec.Metrics.Primary.Name, r.Metrics)
	if err != nil || metric.Kind != store.Mean || metric.Days {
		return err
	}
	metric = metric.Capped(r.Spec.Metrics.Primary.Cap)
	// The exposed users. If communities are the unit, they have about as many members.
	users := r.report.Units.Users.Control + r.report.Units.Users.Treatment
	each := (days + mostParts - 1) / mostParts
	parts, err := r.rows.UserParts(r.ctx, metric, r.members(r.settled), each, int(users/daysOf)+1)
	if err != nil {
		return fmt.Errorf("metric %s by day: %w", metric.Name, err)
	}
	found := make(map[int]*[2]stats.Moments)
	for _, p := range parts {
		if found[p.Day] == nil {
			found[p.Day] = new([2]stats.Moments)
		}
		found[p.Day][armIndex(p.Arm)] = stats.Moments{N: p.Users, Sum: p.Sum, SumSq: p.SumSq}
	}
	for at := 0; at < days; at += each {
		arms := found[at]
		if arms == nil {
			continue
		}
		control, errA := arms[0].Mean()
		treatment, errB := arms[1].Mean()
		if tooLittleData(errA) || tooLittleData(errB) {
			continue
		}
		e := DayEffect{Day: at, Days: each, Users: control.N + treatment.N, Control: control.Value, Treatment: treatment.Value, Difference: treatment.Value - control.Value}
		if d, err := stats.Difference(control, treatment); err == nil {
			if i, err := d.Interval(r.alpha); err == nil {
				e.Interval = toInterval(i)
			}
		}
		r.report.Days = append(r.report.Days, e)
	}
	return nil
}
