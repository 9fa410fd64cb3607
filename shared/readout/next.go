package readout

import (
	"time"

	"warble/shared/experiment"
)

// Next is what people should do now.
type Next struct {
	Do      Action     `json:"do"`
	Why     string     `json:"why"`
	Until   *time.Time `json:"until"`   // when to look again, if that is known
	Command string     `json:"command"` // empty if there is nothing to type
}

// Action is what to do, in one or two words.
type Action string

// The actions.
const (
	Start    Action = "start"
	Wait     Action = "wait"
	Fix      Action = "fix"
	Promote  Action = "promote"
	RollBack Action = "roll back"
	Decide   Action = "decide"
	Archive  Action = "archive"
	Nothing  Action = "nothing"
)

// next derives what to do from the report, the decision of the primary metric, and the state of the guardrails.
func (r *Report) next(decision experiment.Decision, guard experiment.Guard) Next {
	verb := func(verb string) string { return "kn experiment " + verb + " " + r.Experiment }
	switch r.Phase {
	case "", experiment.Draft:
		return Next{Do: Start, Why: "it has not been started", Command: verb("start")}
	case experiment.Warming:
		return Next{Do: Wait, Why: "its arms are starting"}
	case experiment.Promoting:
		return Next{Do: Wait, Why: "it is being promoted"}
	case experiment.Concluded:
		return Next{Do: Archive, Why: "it has ended: archive exports its data and deletes the rows of single users", Command: verb("archive")}
	case experiment.Archived:
		return Next{Do: Nothing, Why: "it has ended, and the rows of single users are deleted"}
	}
	switch {
	case r.Verdict == Breach:
		return Next{Do: RollBack, Why: "a guardrail is breached, so steer rolls the experiment back by itself", Command: verb("rollback")}
	case r.Verdict == Withheld:
		return Next{Do: Fix, Why: "fix what is red under Health, or stop the experiment: its figures cannot be trusted", Command: verb("stop")}
	case r.Observational:
		return Next{Do: Decide, Why: "nobody was randomised, so the figures describe the arms and decide nothing", Command: verb("stop")}
	case r.Verdict == Safe:
		return Next{Do: Promote, Why: "every guardrail passes", Command: verb("promote")}
	case decision == experiment.Harm || decision == experiment.NotWorthIt:
		return Next{Do: RollBack, Why: "steer rolls the experiment back by itself", Command: verb("rollback")}
	case decision == experiment.Win && guard != experiment.GuardPass:
		return Next{Do: Wait, Why: "the feature helps, but a guardrail is not decided yet"}
	case decision == experiment.Win && r.Spec.Promote == "automatic":
		return Next{Do: Wait, Why: "the feature helps, and steer promotes it by itself", Command: verb("promote")}
	case decision == experiment.Win:
		return Next{Do: Promote, Why: "the feature helps, and every guardrail passes", Command: verb("promote")}
	case decision == experiment.Inconclusive:
		return Next{Do: Decide, Why: "the planned end has come without an answer: stop the experiment, or promote the feature for other reasons", Command: verb("stop")}
	}
	return Next{Do: Wait, Why: "nothing is decided yet", Until: r.Method.SpeaksAt}
}
