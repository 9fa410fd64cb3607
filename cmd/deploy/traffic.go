package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// traffic is one target of a Service's traffic, in its spec or in its status.
type traffic struct {
	Tag            string `json:"tag,omitempty"`
	RevisionName   string `json:"revisionName,omitempty"`
	LatestRevision bool   `json:"latestRevision"`
	Percent        int    `json:"percent"`
	URL            string `json:"url,omitempty"` // of a tag; only in a status
}

const (
	// candidateTag is the tag of new revisions without traffic. The edge's candidate calls the functions' candidates.
	candidateTag = "candidate"
	// trafficAnnotation has a Service's former traffic while there is a candidate.
	trafficAnnotation = "warble.dev/traffic-before-candidate"
)

// candidateOf returns the candidate's target, nil if there is none.
func candidateOf(targets []traffic) *traffic {
	if i := slices.IndexFunc(targets, func(t traffic) bool { return t.Tag == candidateTag }); i >= 0 {
		return &targets[i]
	}
	return nil
}

// withoutCandidate returns the targets without the candidate's.
func withoutCandidate(targets []traffic) []traffic {
	return slices.DeleteFunc(slices.Clone(targets), func(t traffic) bool { return t.Tag == candidateTag })
}

// former is a Service's traffic before the candidate, and the revision to which the targets that follow the newest revision led then.
type former struct {
	Traffic  []traffic `json:"traffic"`
	Revision string    `json:"revision"`
}

// pinned returns the traffic while there is a candidate: targets that followed the newest revision stay with the revision of that time.
func (f former) pinned() []traffic {
	next := slices.Clone(f.Traffic)
	for i := range next {
		if next[i].LatestRevision {
			next[i].LatestRevision, next[i].RevisionName = false, f.Revision
		}
	}
	return next
}

// formerOf reads the annotation. It returns nil if there is none.
func formerOf(s *service) (*former, error) {
	text := s.Metadata.Annotations[trafficAnnotation]
	if text == "" {
		return nil, nil
	}
	var f former
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return nil, fmt.Errorf("%s: annotation %s: %w", s.Metadata.Name, trafficAnnotation, err)
	}
	return &f, nil
}

// withCandidate returns the pinned traffic plus a candidate, which follows the newest revision, and the former traffic. If no revision of the
// Service has ever been ready, nothing could serve instead of the newest: then the traffic stays as it is, and the former traffic is nil.
func withCandidate(s *service) (next []traffic, was *former, err error) {
	was, err = formerOf(s)
	if err != nil {
		return nil, nil, err
	}
	present := withoutCandidate(s.Spec.Traffic)
	pinned := was != nil && sameTargets(was.pinned(), present) // by an earlier candidate, and nobody has changed it since
	newestReady := s.Status.LatestReadyRevisionName
	switch {
	case pinned:
	case newestReady == "":
		was = nil
	default:
		was = &former{present, newestReady}
		present = was.pinned()
	}
	candidate := traffic{Tag: candidateTag, LatestRevision: true}
	return append(present, candidate), was, nil
}

// afterPromotion returns the traffic after a promotion: the former traffic, which follows the newest revision again if it did before. If
// somebody has changed the traffic in the meantime, ok is false, and only the candidate is removed.
func afterPromotion(s *service) (next []traffic, ok bool, err error) {
	present := withoutCandidate(s.Spec.Traffic)
	was, err := formerOf(s)
	if err != nil || was == nil {
		return present, true, err
	}
	if !sameTargets(was.pinned(), present) {
		return present, false, nil
	}
	return was.Traffic, true, nil
}

// sameTargets reports whether two lists have the same targets, in any order.
func sameTargets(a, b []traffic) bool {
	order := func(x, y traffic) int {
		return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.RevisionName, y.RevisionName), cmp.Compare(x.Percent, y.Percent))
	}
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}
