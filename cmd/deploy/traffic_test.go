package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// found has the traffic that a Service may have before a deployment, by a description. The newest ready revision is tweet-00002.
var found = map[string][]traffic{
	"as Knative makes it":   {{LatestRevision: true, Percent: 100}},
	"a tag of its own":      {{LatestRevision: true, Percent: 100, Tag: "current"}},
	"another's tags":        {{LatestRevision: true, Percent: 100}, {RevisionName: "tweet-00001", Tag: "before"}, {LatestRevision: true, Tag: "newest"}},
	"split":                 {{LatestRevision: true, Percent: 20}, {RevisionName: "tweet-00001", Percent: 80}},
	"pinned by someone":     {{RevisionName: "tweet-00001", Percent: 100}},
	"pinned to what is new": {{RevisionName: "tweet-00002", Percent: 100, Tag: "stable"}},
}

func serviceWith(targets []traffic, newest string) *service {
	s := new(service)
	s.Spec.Traffic, s.Status.LatestReadyRevisionName = targets, newest
	s.Metadata.Annotations = make(map[string]string)
	return s
}

// setAside returns the Service as Knative has it after withCandidate.
func setAside(t *testing.T, s *service) {
	t.Helper()
	next, was, err := withCandidate(s)
	if err != nil {
		t.Fatal(err)
	}
	s.Spec.Traffic = next
	if was != nil {
		text, err := json.Marshal(was)
		if err != nil {
			t.Fatal(err)
		}
		s.Metadata.Annotations[trafficAnnotation] = string(text)
	}
}

// The test makes a candidate, a second one, which fails, and a third one. Until the promotion, no new revision has a percentage or
// a tag other than the candidate's. The promotion restores the traffic that was found.
func TestTrafficIsPinnedAndRestored(t *testing.T) {
	t.Parallel()
	for name, before := range found {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serviceWith(before, "tweet-00002")
			for _, newest := range []string{"tweet-00003", "tweet-00004", "tweet-00005"} {
				setAside(t, s)
				s.Status.LatestReadyRevisionName = newest
				sum := 0
				for _, target := range s.Spec.Traffic {
					sum += target.Percent
					if target.LatestRevision && target != (traffic{Tag: candidateTag, LatestRevision: true}) || target.RevisionName >= "tweet-00003" {
						t.Errorf("beside %s: %+v", newest, target)
					}
				}
				if sum != 100 || len(s.Spec.Traffic) != len(before)+1 {
					t.Errorf("set aside: %+v", s.Spec.Traffic)
				}
				if newest == "tweet-00004" {
					s.Spec.Traffic = withoutCandidate(s.Spec.Traffic) // this candidate failed
				}
			}
			given, ok, err := afterPromotion(s)
			if diff := cmp.Diff(before, given); diff != "" || !ok || err != nil {
				t.Errorf("given back: %s %t %v", diff, ok, err)
			}
		})
	}
}

func TestTrafficThatSomebodyHasChangedIsNotRestored(t *testing.T) {
	t.Parallel()
	s := serviceWith(found["as Knative makes it"], "tweet-00002")
	setAside(t, s)
	theirs := []traffic{{RevisionName: "tweet-00001", Percent: 100}}
	s.Spec.Traffic = append([]traffic{*candidateOf(s.Spec.Traffic)}, theirs...)
	next, ok, err := afterPromotion(s)
	if diff := cmp.Diff(theirs, next); diff != "" || ok || err != nil {
		t.Errorf("given back: %s %t %v", diff, ok, err)
	}
	setAside(t, s) // the next candidate finds their traffic
	next, ok, err = afterPromotion(s)
	if diff := cmp.Diff(theirs, next); diff != "" || !ok || err != nil {
		t.Errorf("given back: %s %t %v", diff, ok, err)
	}
}

// If a Service has never been ready, no old revision can serve: the newest revision gets the traffic and the tag.
func TestANewServiceGetsItsTrafficImmediately(t *testing.T) {
	t.Parallel()
	s := serviceWith(found["as Knative makes it"], "")
	setAside(t, s)
	want := []traffic{{LatestRevision: true, Percent: 100}, {Tag: candidateTag, LatestRevision: true}}
	if diff := cmp.Diff(want, s.Spec.Traffic); diff != "" || s.Metadata.Annotations[trafficAnnotation] != "" {
		t.Errorf("%s, and %v", diff, s.Metadata.Annotations)
	}
	next, ok, err := afterPromotion(s)
	if diff := cmp.Diff(found["as Knative makes it"], next); diff != "" || !ok || err != nil {
		t.Errorf("given back: %s %t %v", diff, ok, err)
	}
}
