package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// traffic is one target of a Service's, in its spec or in its status.
type traffic struct {
	Tag            string `json:"tag,omitempty"`
	RevisionName   string `json:"revisionName,omitempty"`
	LatestRevision bool   `json:"latestRevision"`
	Percent        int    `json:"percent"`
	URL            string `json:"url,omitempty"` // of a tag, in a status alone
}

const (
	// candidateTag is that of new revisions without traffic. The edge's candidate calls those of the functions.
	candidateTag = "candidate"
	// trafficAnnotation holds, while a Service's traffic is set aside, what it was before.
	trafficAnnotation = "warble.dev/traffic-before-candidate"
)

// candidateOf returns the candidate's target, nil where there is none.
func candidateOf(targets []traffic) *traffic {
	if i := slices.IndexFunc(targets, func(t traffic) bool { return t.Tag == candidateTag }); i >= 0 {
		return &targets[i]
	}
	return nil
}

// withoutCandidate are the targets but for the candidate's.
func withoutCandidate(targets []traffic) []traffic {
	return slices.DeleteFunc(slices.Clone(targets), func(t traffic) bool { return t.Tag == candidateTag })
}

// former is traffic as it was found, and the revision that what followed the newest led to.
type former struct {
	Traffic  []traffic `json:"traffic"`
	Revision string    `json:"revision"`
}

// pinned is the traffic while it is set aside: what followed the newest revision stays with the one that it led to.
func (f former) pinned() []traffic {
	next := slices.Clone(f.Traffic)
	for i := range next {
		if next[i].LatestRevision {
			next[i].LatestRevision, next[i].RevisionName = false, f.Revision
		}
	}
	return next
}

// formerOf reads the annotation; nil where there is none.
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

// besideCandidate returns the traffic with a candidate beside it, which follows the newest revision, and what it was found as. What
// an earlier candidate has pinned stays so, unless somebody has changed it since. A Service of which no revision has been
// ready has nothing that could serve instead of the newest: its traffic follows that, and former is nil.
func besideCandidate(s *service) (next []traffic, was *former, err error) {
	present := withoutCandidate(s.Spec.Traffic)
	candidate := traffic{Tag: candidateTag, LatestRevision: true}
	was, err = formerOf(s)
	switch {
	case err != nil:
		return nil, nil, err
	case was != nil && sameTargets(was.pinned(), present):
	case s.Status.LatestReadyRevisionName == "":
		was = nil
	default:
		was = &former{present, s.Status.LatestReadyRevisionName}
		present = was.pinned()
	}
	return append(present, candidate), was, nil
}

// afterPromotion returns the traffic after a promotion: as it was found, which follows the newest revision if it did before. What
// somebody has changed meanwhile is theirs: ok is false, and the candidate's tag is all that goes.
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

// sameTargets tells whether two lists of targets say the same, in whatever order.
func sameTargets(a, b []traffic) bool {
	order := func(x, y traffic) int {
		return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.RevisionName, y.RevisionName), cmp.Compare(x.Percent, y.Percent))
	}
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}
