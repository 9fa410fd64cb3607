package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"warble/shared/experiment"
	"warble/shared/manifest"
)

// The routes file. functions/edge reads it.
type (
	routesFile struct {
		Functions   []routesEntry      `json:"functions"`
		Experiments []experiment.Rules `json:"experiments,omitempty"`
	}
	routesEntry struct {
		Name     string   `json:"name"`
		URL      string   `json:"url"`
		Starting bool     `json:"starting"`
		Routes   []string `json:"routes"`

		Streams map[string]int `json:"streams,omitempty"`
		Guest   *guestEntry    `json:"guest,omitempty"`
	}
	guestEntry struct {
		Hosts          []string `json:"hosts,omitempty"`
		TimeoutSeconds int      `json:"timeoutSeconds,omitempty"`
		RateLimit      string   `json:"rateLimit,omitempty"`
	}
)

// scrapeTarget is an entry of metrics.json, for file_sd_configs of a Prometheus on this machine. It has the labels that
// terraform/04-observability/podmonitor.yaml gives a pod.
type scrapeTarget struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func (f *fleet) writeFiles() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writeFilesLocked()
}

// writeFilesLocked writes the functions' addresses into routes.json, for the edge, and into metrics.json, for Prometheus.
func (f *fleet) writeFilesLocked() error {
	routes := routesFile{Experiments: f.rulesLocked()}
	targets := []scrapeTarget{}
	for _, one := range f.functions {
		name := one.service.Name()
		if paths, guest := one.service.Routes(), guestOf(one.service); (len(paths) > 0 || guest != nil) && one.arm == "" {
			routes.Functions = append(routes.Functions, routesEntry{Name: name, URL: "http://" + one.address, Starting: one.starting, Routes: paths, Streams: one.service.Streams(), Guest: guest})
		}
		if one.process != nil && !one.service.Guest() {
			labels := map[string]string{"namespace": "warble", "function": name, "pod": name + "-" + strconv.Itoa(one.process.cmd.Process.Pid)}
			targets = append(targets, scrapeTarget{[]string{one.process.metrics}, labels})
		}
	}
	if err := replaceFile(f.state.path("warble-routes", "routes.json"), routes); err != nil {
		return err
	}
	return replaceFile(f.state.path("metrics.json"), targets)
}

// guestOf returns a guest's entry in the routes file, or nil if the Service is a function.
func guestOf(s *manifest.Service) *guestEntry {
	if !s.Guest() {
		return nil
	}
	a := s.Metadata.Annotations
	return &guestEntry{Hosts: strings.Fields(a[manifest.HostsAnnotation]), TimeoutSeconds: s.Spec.Template.Spec.TimeoutSeconds, RateLimit: a[manifest.RateLimitAnnotation]}
}

// follow makes the fleet follow the records: it tells the edge the rules of the experiments, and drops arms that are no longer recorded.
// addArm adds new arms.
func (f *fleet) follow(k *kept) error {
	arms := make(map[armID]bool)
	for key, record := range k.Arms {
		for _, made := range record.Arms {
			for _, revision := range made.Revisions {
				arms[idOf(key, revision.Name)] = true
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.experiments = k.byAge()
	f.dropLocked(arms)
	return f.writeFilesLocked()
}

// rulesLocked returns the rules by which the edge assigns units. After a process was replaced, the status has the old address until
// the next turn, so the rules get the present process's address instead.
func (f *fleet) rulesLocked() (all []experiment.Rules) {
	for _, e := range f.experiments {
		rules := e.Rules()
		if !e.Status.Phase.Live() || len(e.Status.Assign.Services) == 0 && len(rules.Baseline) == 0 {
			continue
		}
		for service, reach := range rules.Reach {
			for _, side := range []*experiment.Side{&reach.Control, &reach.Treatment} {
				if one := f.armLocked(idOf(keyOf(e.UID, service), side.Revision)); one != nil {
					side.Host = one.address
				}
			}
			rules.Reach[service] = reach
		}
		all = append(all, rules)
	}
	return all
}

// replaceFile replaces a file atomically, so that nobody reads half of it.
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
