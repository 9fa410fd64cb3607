package main

import (
	"encoding/json"
	"os"
	"strconv"

	"warble/shared/experiment"
)

// The routes file, as functions/edge reads it.
type (
	routesFile struct {
		Functions   []routesEntry      `json:"functions"`
		Experiments []experiment.Rules `json:"experiments,omitempty"`
	}
	routesEntry struct {
		Name     string            `json:"name"`
		URL      string            `json:"url"`
		Tags     map[string]string `json:"tags,omitempty"` // the arms of experiments: tag -> URL
		Starting bool              `json:"starting"`
		Routes   []string          `json:"routes"`
	}
)

// scrapeTarget is an entry of metrics.json, which a Prometheus on this machine reads with file_sd_configs. Its labels are
// those that terraform/04-observability/podmonitor.yaml gives a pod.
type scrapeTarget struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func (f *fleet) writeFiles() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writeFilesLocked()
}

// writeFilesLocked says where the functions are: to the edge, and to whoever scrapes them.
func (f *fleet) writeFilesLocked() error {
	routes := routesFile{Experiments: f.rules}
	targets := []scrapeTarget{}
	for _, one := range f.functions {
		name := one.service.Name()
		if paths := one.service.Routes(); len(paths) > 0 && f.untouchedLocked(one) {
			routes.Functions = append(routes.Functions, f.entryLocked(one, paths))
		}
		if one.process != nil {
			labels := map[string]string{"namespace": "warble", "function": name, "pod": name + "-" + strconv.Itoa(one.process.cmd.Process.Pid)}
			targets = append(targets, scrapeTarget{[]string{one.process.metrics}, labels})
		}
	}
	if err := replaceFile(f.state.path("warble-routes", "routes.json"), routes); err != nil {
		return err
	}
	return replaceFile(f.state.path("metrics.json"), targets)
}

// entryLocked is the function that serves who is in no arm, and the tags of those that serve who is.
func (f *fleet) entryLocked(one *function, paths []string) routesEntry {
	entry := routesEntry{Name: one.service.Name(), URL: "http://" + one.address, Starting: one.starting, Routes: paths}
	for _, t := range f.traffic[entry.Name] {
		arm := f.revisionLocked(t.Revision)
		if t.Tag == "" || arm == nil {
			continue
		}
		if entry.Tags == nil {
			entry.Tags = make(map[string]string)
		}
		entry.Tags[t.Tag] = "http://" + arm.address
		entry.Starting = entry.Starting || arm.starting
	}
	return entry
}

// untouchedLocked tells whether a revision has all of the requests that go by no tag.
func (f *fleet) untouchedLocked(one *function) bool {
	for _, t := range f.traffic[one.service.Name()] {
		if t.Percent > 0 {
			return t.Revision == one.revision
		}
	}
	return true
}

func (f *fleet) revisionLocked(name string) *function {
	for _, one := range f.functions {
		if one.revision == name {
			return one
		}
	}
	return nil
}

// replaceFile replaces a file at once: nobody reads half of it.
func replaceFile(file string, content any) error {
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	temporary := file + "." + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}
