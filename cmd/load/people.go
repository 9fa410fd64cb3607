package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

// kind is what someone does. The first three are what a session is made of; the others come on top.
type kind uint8

const (
	home     kind = iota // reads the home timeline
	timeline             // reads the tweets of someone in the same community
	post                 // posts a tweet
	like                 // likes a tweet that they read
	retweet              // retweets one
	feedback             // says what they think of Warble
	renew                // renews the session before its token expires
	kinds
)

func (k kind) String() string {
	return [kinds]string{"home", "timeline", "post", "like", "retweet", "feedback", "renew"}[k]
}

// model says how people behave. It knows of no clock and no network: what someone does is a function of the seed, the
// person and how often they came before, and is the same in every run, whatever the server answers.
//
// People come by themselves: everybody's sessions are a Poisson process of its own rate, and those rates are log-normal.
// A session is a geometric number of actions, with exponential pauses. Nobody's sessions depend on anybody else's, so an
// effect on some changes nothing for the rest, which is what the inference on the other side assumes.
type model struct {
	seed     uint64
	people   int
	rate     float64       // requests a second of all people together, without likes, retweets and an effect
	cv       float64       // coefficient of variation of the rates among people
	actions  float64       // mean number of them in a session, at least 1
	think    time.Duration // mean pause before each but a session's first
	mix      [3]float64    // shares of home, timeline and post: their sum is 1
	like     float64       // probability that someone wants to like something after reading
	retweet  float64       // probability that someone retweets something after reading
	feedback float64       // probability that a session ends with feedback
	effect   float64       // of the treatment: its people post 1 + effect times as much
}

// intent is what a person means to do at some time. more and which are uniform in [0, 1): drawn whether or not they are
// needed, so that an effect changes nothing but what it means to.
type intent struct {
	at     time.Duration // since the load began
	person int
	kind   kind
	more   float64 // for effects
	which  float64 // whose timeline, which tweet, which words
}

// population is a model with its people's weights, which say how much more often than the average each of them comes.
type population struct {
	model
	weights []float64 // their mean is 1
}

func newPopulation(m model) *population {
	p := &population{m, make([]float64, m.people)}
	variance := math.Log1p(m.cv * m.cv)
	law := distuv.LogNormal{Mu: -variance / 2, Sigma: math.Sqrt(variance), Src: m.source(math.MaxUint64, 0)}
	sum := 0.
	for i := range p.weights {
		p.weights[i] = law.Rand()
		sum += p.weights[i]
	}
	for i := range p.weights {
		p.weights[i] *= float64(m.people) / sum
	}
	return p
}

// source is a stream of randomness of its own for each person and visit.
func (m model) source(person, visit uint64) rand.Source {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[0:], m.seed)
	binary.LittleEndian.PutUint64(seed[8:], person)
	binary.LittleEndian.PutUint64(seed[16:], visit)
	return rand.NewChaCha8(seed)
}

// visit is the nth session of a person: how long after the start of the one before it begins, and what they mean to do,
// with times since its beginning, in order.
func (p *population) visit(person, n int) (gap time.Duration, intents []intent) {
	r := rand.New(p.source(uint64(person), uint64(n)))
	gap = exponential(r, time.Duration(float64(time.Second)/(p.sessions()*p.weights[person])))
	at := time.Duration(0)
	mean := func(k kind) { intents = append(intents, intent{at, person, k, r.Float64(), r.Float64()}) }
	for {
		k := p.choose(r.Float64())
		mean(k)
		for _, after := range []struct {
			kind
			chance float64
		}{{like, p.like}, {retweet, p.retweet}} {
			if wants := r.Float64() < after.chance; wants && k != post {
				at += exponential(r, p.think)
				mean(after.kind)
			}
		}
		last := r.Float64()*p.actions < 1
		if last && r.Float64() >= p.feedback {
			return gap, intents
		}
		at += exponential(r, p.think)
		if last {
			mean(feedback)
			return gap, intents
		}
	}
}

// sessions is how many begin in a second for each person, on average.
func (m model) sessions() float64 {
	return m.rate / (m.actions + m.feedback) / float64(m.people)
}

// warmUp is how long after a first session is begun there are as many going on as ever: sessions longer than that are
// one in e^7.
func (m model) warmUp() time.Duration {
	return time.Duration(7 * (m.actions + 1) * (1 + m.like + m.retweet) * float64(m.think))
}

func (m model) choose(u float64) kind {
	switch {
	case u < m.mix[home]:
		return home
	case u < m.mix[home]+m.mix[timeline]:
		return timeline
	}
	return post
}

// acts is what comes of an intent. The treatment's people post more by posting, with a probability, beside whatever they
// do in a session, and less by keeping some of their posts to themselves. Either way the expected number of posts is
// 1 + effect times that of others, and all else they do is the same.
func (m model) acts(i intent, treated bool) []kind {
	switch {
	case !treated || i.kind > post:
	case m.effect > 0 && i.more < m.effect*m.mix[post]:
		return []kind{i.kind, post}
	case m.effect < 0 && i.kind == post && i.more < -m.effect:
		return nil
	}
	return []kind{i.kind}
}

func exponential(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(r.ExpFloat64() * float64(mean))
}

// scores are the probabilities of a feedback's scores, 1 to 5: the same in both arms.
var scores = [5]float64{.05, .1, .25, .35, .25}

// score is the feedback of a uniform draw.
func score(u float64) int {
	for i, share := range scores {
		if u -= share; u < 0 {
			return i + 1
		}
	}
	return len(scores)
}
