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

// keptFile is the file of the state folder that one run leaves to the next.
const keptFile = "experiments.json"

// kept is what outlives a run.
type kept struct {
	Namespace   types.UID                      `json:"namespace"`   // of the namespace that the experiments are in; drawn once
	Version     int64                          `json:"version"`     // resourceVersion of the newest change to an experiment
	Experiments map[string]*rollout.Experiment `json:"experiments"` // by name
	Arms        map[armsKey]*armsRecord        `json:"arms"`
	Services    map[string]*serviceRecord      `json:"services"` // those that GiveTreatment has changed, by name
	Metrics     map[string]*rollout.Metric     `json:"metrics"`  // by name
}

// armsKey names the arms of one experiment at one Service: UID/SERVICE.
type armsKey string

func keyOf(uid types.UID, service string) armsKey { return armsKey(string(uid) + "/" + service) }

// armsRecord is what there is of one Service's arms.
type armsRecord struct {
	Service string                         `json:"service"`
	Arms    map[experiment.Arm]*madeRecord `json:"arms"`
	Route   *rollout.Route                 `json:"route,omitempty"`
}

// madeRecord is one arm. An older revision stays until no route and no edge leads to it.
type madeRecord struct {
	Made      int              `json:"made"`      // how many revisions there have been
	Revisions []revisionRecord `json:"revisions"` // the newest last, and one at least
}

// revisionRecord is one revision of an arm.
type revisionRecord struct {
	Name string            `json:"name"`
	Of   string            `json:"of"`  // the rollout.Arm.Source that it was made by
	Env  map[string]string `json:"env"` // on top of the manifest's
}

func (m *madeRecord) newest() *revisionRecord { return &m.Revisions[len(m.Revisions)-1] }

// serviceRecord is what GiveTreatment has made of a Service.
type serviceRecord struct {
	// Given are all variables that were given to it, on top of the manifest's, one entry for each revision after the first.
	Given []map[string]string `json:"given"`
}

// revisionName is the name of the n-th revision of a Service, from 0.
func revisionName(service string, n int) string {
	if n == 0 {
		return service + "-local"
	}
	return service + "-local-" + strconv.Itoa(n+1)
}

// newest returns the newest revision of a Service, and its variables on top of the manifest's.
func (k *kept) newest(service string) (revision string, given map[string]string) {
	record := k.Services[service]
	if record == nil {
		return revisionName(service, 0), nil
	}
	n := len(record.Given)
	return revisionName(service, n), record.Given[n-1]
}

// given returns the variables that a revision of a Service has on top of the manifest's.
func (k *kept) given(service, revision string) (map[string]string, error) {
	if revision == revisionName(service, 0) {
		return nil, nil
	}
	if record := k.Services[service]; record != nil {
		for n, given := range record.Given {
			if revision == revisionName(service, n+1) {
				return given, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: there is no revision %s: %w", service, revision, rollout.ErrNotFound)
}

// put keeps an experiment as the newest change. The version is written into it.
func (k *kept) put(e *rollout.Experiment) {
	k.Version++
	e.ResourceVersion = strconv.FormatInt(k.Version, 10)
	k.Experiments[e.Name] = e
}

// records holds what is kept, in memory and in its file. The file is written before anything comes of a change, so that a
// run that was killed is continued by the next.
type records struct {
	file string
	// told is called after each change, in their order and one at a time. It must not call records.
	told func(*kept) error

	mu      sync.Mutex // guards what follows
	kept    *kept      // never changes: another takes its place
	text    []byte     // the same, as it is in the file
	changes []change   // the newest changes of experiments, in order
	oldest  int64      // a watch from an earlier version would miss changes
	changed chan struct{}
}

// openRecords reads what another run has left, if there was one.
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
		return nil, fmt.Errorf("%s: %w: expected what another run has written; -fresh starts without it", file, err)
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

// read returns what is kept. Nobody changes it.
func (r *records) read() *kept {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept
}

// write lets edit change a copy, which is kept unless edit returns an error. What is then in memory is what another run
// would read: times in whole seconds, and no empty fields.
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
	if r.told == nil {
		return nil
	}
	return r.told(next)
}
