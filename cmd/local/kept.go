package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// keptFile is the file of the state folder that the next run reads.
const keptFile = "experiments.json"

// kept is what the next run reads.
type kept struct {
	Namespace   types.UID                      `json:"namespace"`   // UID of the experiments' namespace, drawn once
	Version     int64                          `json:"version"`     // resourceVersion of the newest change to an experiment
	Experiments map[string]*rollout.Experiment `json:"experiments"` // by name
	Arms        map[armsKey]*armsRecord        `json:"arms"`
	Services    map[string]*serviceRecord      `json:"services"` // only those that GiveTreatment has changed, by name
	Metrics     map[string]*rollout.Metric     `json:"metrics"`  // by name
}

// armsKey names the arms of one experiment at one Service: UID/SERVICE.
type armsKey string

func keyOf(uid types.UID, service string) armsKey { return armsKey(string(uid) + "/" + service) }

// armsRecord has one Service's arms and their route.
type armsRecord struct {
	Service string                         `json:"service"`
	Arms    map[experiment.Arm]*madeRecord `json:"arms"`
	Route   *rollout.Route                 `json:"route,omitempty"`
}

// madeRecord is one arm. An older revision stays until no route and no edge leads to it.
type madeRecord struct {
	Made      int              `json:"made"`      // number of revisions so far
	Revisions []revisionRecord `json:"revisions"` // at least one; the newest last
}

// revisionRecord is one revision of an arm.
type revisionRecord struct {
	Name string            `json:"name"`
	Of   string            `json:"of"`  // its rollout.Arm.Source
	Env  map[string]string `json:"env"` // variables that override the manifest
}

func (m *madeRecord) newest() *revisionRecord { return &m.Revisions[len(m.Revisions)-1] }

// serviceRecord has the changes that GiveTreatment has made to a Service.
type serviceRecord struct {
	// Overrides has an entry for each revision after the first: all variables that override the manifest.
	Overrides []map[string]string `json:"given"`
}

// revisionName returns the name of the n-th revision of a Service, from 0.
func revisionName(service string, n int) string {
	if n == 0 {
		return service + "-local"
	}
	return service + "-local-" + strconv.Itoa(n+1)
}

// newest returns the newest revision of a Service, and its variables that override the manifest.
func (k *kept) newest(service string) (revision string, variables map[string]string) {
	record := k.Services[service]
	if record == nil {
		return revisionName(service, 0), nil
	}
	n := len(record.Overrides)
	return revisionName(service, n), record.Overrides[n-1]
}

// variables returns the variables of a revision that override the manifest.
func (k *kept) variables(service, revision string) (map[string]string, error) {
	if revision == revisionName(service, 0) {
		return nil, nil
	}
	if record := k.Services[service]; record != nil {
		for n, variables := range record.Overrides {
			if revision == revisionName(service, n+1) {
				return variables, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: there is no revision %s: %w", service, revision, rollout.ErrNotFound)
}

// put stores an experiment as the newest change, and sets its resource version.
func (k *kept) put(e *rollout.Experiment) {
	k.Version++
	e.ResourceVersion = strconv.FormatInt(k.Version, 10)
	k.Experiments[e.Name] = e
}

// records has the state that the next run needs, in memory and in a file. A change is written to the file before it takes effect, so that
// the next run continues even if this one is killed.
type records struct {
	file string
	// onChange is called after each change, in order, and never twice at the same time. It must not call records.
	onChange func(*kept) error

	mu      sync.Mutex    // guards the fields below
	kept    *kept         // replaced by each change, never changed in place
	text    []byte        // kept, as it is in the file
	changes []change      // the newest changes of experiments, in order
	oldest  int64         // a watch from an earlier version would miss changes
	changed chan struct{} // closed and replaced by each change
}

// openRecords reads the file of the previous run, if there is one.
func openRecords(file string) (*records, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		text = []byte("{}")
	}
	k, err := parseKept(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: expected the file of an earlier run; -fresh starts without it", file, err)
	}
	r := &records{file: file, kept: k, text: text, oldest: k.Version, changed: make(chan struct{})}
	return r, r.write(func(k *kept) error {
		if k.Namespace == "" {
			k.Namespace = uuid.NewUUID()
		}
		return nil
	})
}

func parseKept(text []byte) (*kept, error) {
	k := &kept{}
	if err := json.Unmarshal(text, k); err != nil {
		return nil, err
	}
	if k.Experiments == nil {
		k.Experiments = make(map[string]*rollout.Experiment)
	}
	if k.Arms == nil {
		k.Arms = make(map[armsKey]*armsRecord)
	}
	if k.Services == nil {
		k.Services = make(map[string]*serviceRecord)
	}
	if k.Metrics == nil {
		k.Metrics = make(map[string]*rollout.Metric)
	}
	return k, nil
}

// read returns the present state. The caller must not change it.
func (r *records) read() *kept {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept
}

// write lets edit change a copy of the state, and stores the copy unless edit returns an error. The state in memory is then exactly what
// the next run would read: times in whole seconds, and no empty fields.
func (r *records) write(edit func(*kept) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := parseKept(r.text)
	if err != nil {
		return err
	}
	if err := edit(next); err != nil {
		return err
	}
	text, err := json.Marshal(next)
	if err != nil || bytes.Equal(text, r.text) {
		return err
	}
	if next, err = parseKept(text); err != nil {
		return err
	}
	if err := replaceFile(r.file, next); err != nil {
		return err
	}
	before := r.kept
	r.kept, r.text = next, text
	r.remember(before, next)
	if r.onChange == nil {
		return nil
	}
	return r.onChange(next)
}
