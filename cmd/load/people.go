package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

// kind is an action. A session consists of the first three kinds; the others are added to them.
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

// model describes how people behave. It uses no clock and no network: an action depends only on the seed, the person and the number of their
// earlier sessions. So it is the same in every run, and does not depend on the server's answers.
//
// People are independent: each person's sessions are a Poisson process, and the processes' rates are log-normal. A session has a geometric number
// of actions, with exponential pauses. So an effect on some people changes nothing for the others, as the readout assumes.
type model struct {
	seed     uint64
	people   int
	rate     float64       // requests a second of all people together, without likes, retweets and an effect
	cv       float64       // coefficient of variation of the rates among people
	actions  float64       // mean number of them in a session, at least 1
	think    time.Duration // mean pause before each action except a session's first
	mix      [3]float64    // shares of home, timeline and post: their sum is 1
	like     float64       // probability that someone wants to like something after reading
	retweet  float64       // probability that someone retweets something after reading
	feedback float64       // probability that a session ends with feedback
	effect   float64       // people in the treatment post 1 + effect times as much
}

// intent is an action that a person plans for some time. more and which are uniform in [0, 1). They are drawn even if they are not needed, so that
// an effect does not change later draws.
type intent struct {
	at     time.Duration // since the load began
	person int
	kind   kind
	more   float64 // for effects
	which  float64 // whose timeline, which tweet, which words
}

// population is a model with its people's weights: the rate of each person's sessions, relative to the mean.
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

// source returns the random numbers of one person's visit, independent of all others.
func (m model) source(person, visit uint64) rand.Source {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[0:], m.seed)
	binary.LittleEndian.PutUint64(seed[8:], person)
	binary.LittleEndian.PutUint64(seed[16:], visit)
	return rand.NewChaCha8(seed)
}

// visit returns the nth session of a person: the time since the start of the session before, and the intents in order, with times since the
// start of this session.
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

// sessions returns the mean number of sessions that a person begins in a second.
func (m model) sessions() float64 {
	return m.rate / (m.actions + m.feedback) / float64(m.people)
}

// warmUp returns how long it takes until the number of sessions under way stops growing, if people begin with none. One session in e^7 takes
// longer than that.
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

// acts returns the actions that follow from an intent. With a positive effect, people in the treatment add a post to an action, with some
// probability. With a negative effect, they leave out some of their posts. Either way, the expected number of posts is 1 + effect times that of
// others, and all other actions are the same.
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

// scores are the probabilities of the scores 1 to 5 in feedback. They are the same in both arms.
var scores = [5]float64{.05, .1, .25, .35, .25}

// score returns the score for a uniform draw.
func score(u float64) int {
	for i, share := range scores {
		if u -= share; u < 0 {
			return i + 1
		}
	}
	return len(scores)
}
