package rollout_test

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// The health statuses of Argo CD that are used. No phase is Suspended, because Argo CD would wait for its end before it applies
// what comes after.
const (
	healthy     = "Healthy"
	progressing = "Progressing"
	degraded    = "Degraded"
)

// Argo CD shows what a person has to do about an experiment: nothing, wait, or act.
func TestArgoCDShowsTheHealthOfEachPhase(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../knative/argocd/health.lua")
	if err != nil {
		t.Fatal(err)
	}
	running := func(w *fixture) { w.until("likes", atStep(0)) }
	promoting := func(w *fixture) {
		running(w)
		w.end("likes", experiment.Promoted)
		w.until("likes", inPhase(experiment.Promoting))
	}
	concluded := func(end experiment.End) func(*fixture) {
		return func(w *fixture) {
			running(w)
			w.end("likes", end)
			w.until("likes", swept)
		}
	}
	for name, c := range map[string]struct {
		start bool
		live  func(*fixture)
		want  string
		says  string
	}{
		"no status at all": {false, func(*fixture) {}, progressing, "steer has not read this change yet"},
		"a draft":          {false, func(w *fixture) { w.turn() }, healthy, "its start: kn experiment start likes"},
		"a draft that starts at a time": {false, func(w *fixture) {
			w.wish("likes", func(s *experiment.Wishes) { s.StartAt = "2026-12-01T09:00:00Z" })
			w.turn()
		}, healthy, "its start at 2026-12-01 09:00:00"},
		"a start that is refused": {true, func(w *fixture) {
			w.services["like"].Latest = false
			w.turn()
		}, degraded, "refused: like: its newest revision does not have all of its traffic: expected 100 percent, because the arms are copies of it"},
		"Warming": {true, func(w *fixture) { w.until("likes", inPhase(experiment.Warming)) }, progressing, "the control of like to be ready; the control of timeline to be ready; the control of tweet to be ready"},
		"Running": {true, running, healthy, "step 1/3 10% until 2026-11-25 12:01:10"},
		"a win that waits for a person": {true, func(w *fixture) {
			running(w)
			w.verdict["likes"] = win
			w.turn()
		}, healthy, "promotion: it is better: kn experiment promote likes"},
		"a red health check": {true, func(w *fixture) {
			running(w)
			w.verdict["likes"] = experiment.Judgement{Guardrails: experiment.GuardPass, Health: "skewed"}
			w.turn()
		}, degraded, "no step and no verdict while a health check is red: skewed"},
		"a wish that steer has not seen": {true, func(w *fixture) {
			running(w)
			w.wish("likes", func(s *experiment.Wishes) { s.Paused = true })
		}, progressing, "steer has not read this change yet"},
		"Paused": {true, func(w *fixture) {
			running(w)
			w.wish("likes", func(s *experiment.Wishes) { s.Paused, s.Why = true, "the weekend" })
			w.until("likes", inPhase(experiment.Paused))
		}, healthy, "a person to resume it: the weekend"},
		"rebasing": {true, func(w *fixture) {
			running(w)
			w.wish("likes", func(s *experiment.Wishes) { s.Rebase = &experiment.Rebase{Number: 1} })
			w.until("likes", func(e *rollout.Experiment) bool { return e.Status.Rebasing })
		}, progressing, "the control of like to be ready; the control of timeline to be ready; the control of tweet to be ready"},
		"a promotion that is refused": {true, func(w *fixture) {
			running(w)
			w.verdict["likes"] = breach
			w.end("likes", experiment.Promoted)
			w.turn()
		}, degraded, "no promotion, because a guardrail is breached: error_share is 5pp higher; `kn experiment promote likes --anyway` promotes it, `rollback` ends it"},
		"Promoting": {true, promoting, progressing, "stage 20% of the promotion, until 12:02:10"},
		"a promotion that is reverted": {true, func(w *fixture) {
			promoting(w)
			w.until("likes", func(e *rollout.Experiment) bool { return len(e.Status.Treated) == 3 })
			w.deploy("tweet", func(s *rollout.Service) { s.Env["FEATURES"] = "" })
			w.until("likes", stalledFor("Reverted"))
		}, degraded, "somebody has removed the treatment from tweet: steer does not write it again, and the arms stay; `kn experiment stop likes` ends it"},
		"promoted":    {true, concluded(experiment.Promoted), healthy, "promoted: everyone has the treatment"},
		"rolled back": {true, concluded(experiment.RolledBack), healthy, "rolled back: a person has rolled it back"},
		"stopped":     {true, concluded(experiment.Stopped), healthy, "stopped: a person has stopped it"},
		"Archived": {true, func(w *fixture) {
			concluded(experiment.Stopped)(w)
			w.wish("likes", func(s *experiment.Wishes) { s.Archive = true })
			w.until("likes", inPhase(experiment.Archived))
		}, healthy, "stopped: a person has stopped it"},
		"a name that was used": {true, func(w *fixture) {
			running(w)
			w.remove("likes")
			w.draft(whole, experiment.Wishes{Start: true})
			w.until("likes", stalledFor("NameUsed"))
		}, degraded, "an experiment likes has been started before, and its rows are in the database: expected another name"},
		"a phase of a later release": {true, func(w *fixture) {
			running(w)
			w.experiments["likes"].Status.Phase = "Floating"
			w.turn()
		}, degraded, `status.phase is "Floating": expected one that this version knows`},
	} {
		w := newFixture(t, services...)
		w.draft(whole, experiment.Wishes{Start: c.start})
		c.live(w)
		if status, message := health(t, string(script), w.experiments["likes"]); status != c.want || message != c.says {
			t.Errorf("%s: %s %q, want %s %q", name, status, message, c.want, c.says)
		}
	}
}

// health runs a script like Argo CD: with only the libraries base, package and table, for a second at most, and with the object as the
// global obj.
func health(t *testing.T, script string, object any) (status, message string) {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := utiljson.Unmarshal(text, &members); err != nil { // whole numbers are int64, as there
		t.Fatal(err)
	}
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for name, library := range map[string]lua.LGFunction{lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := l.CallByParam(lua.P{Fn: l.NewFunction(library), Protect: true}, lua.LString(name)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a second there; here the machine may be busy
	defer cancel()
	l.SetContext(ctx)
	l.SetGlobal("obj", toLua(l, members))
	if err := l.DoString(script); err != nil {
		t.Fatal(err)
	}
	result, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the script returns %s: expected a table", l.Get(-1).Type())
	}
	return result.RawGetString("status").String(), result.RawGetString("message").String()
}

func toLua(l *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		list := l.NewTable()
		for _, element := range value {
			list.Append(toLua(l, element))
		}
		return list
	case map[string]any:
		table := l.NewTable()
		for name, member := range value {
			table.RawSetString(name, toLua(l, member))
		}
		return table
	}
	return lua.LNil
}
