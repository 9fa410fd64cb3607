package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go/adjacency"
	"github.com/ccojocar/zxcvbn-go/data"
	"github.com/ccojocar/zxcvbn-go/entropy"
	"github.com/ccojocar/zxcvbn-go/match"
	"github.com/ccojocar/zxcvbn-go/scoring"
)

// estimator ranks passwords like zxcvbn, with its dictionaries, its entropies and its score, but with our own search. The
// library's search has three faults. It loads 18 MB of maps before main, so a process that starts in 10 ms with 20 MiB needs
// 50 ms and 31 MiB. It takes half a second for 128 characters that may all be l33t. And it counts runes where its score
// counts bytes. Our search indexes the password and reads through the dictionaries, in 3 to 5 ms.
type estimator struct {
	dictionaries func() ([]dictionary, error) // read at the first use
}

// dictionary has one word per line, in lower case, the most common word first.
type dictionary string

func newEstimator() *estimator {
	return &estimator{dictionaries: sync.OnceValues(loadDictionaries)}
}

const (
	maxEstimated = 64 // bytes of a password that are examined: if these are not common, the password is not
	minWord      = 3  // shorter words are noise
	maxWord      = 24 // longer words are not looked up
)

// guessable is the entropy in bits below which zxcvbn's score is 0: an attacker needs less than a million guesses on average.
const guessable = 20.93

// common reports whether an attacker who knows the words in own is likely to guess password early. Only the beginning of
// password counts.
func (e *estimator) common(password string, own ...string) (bool, error) {
	dictionaries, err := e.dictionaries()
	if err != nil {
		return false, err
	}
	if len(password) > maxEstimated {
		end := maxEstimated
		for end > 1 && !utf8.RuneStart(password[end]) {
			end--
		}
		password = password[:end]
	}
	// A password that repeats its beginning is only as strong as this beginning and the number of repetitions.
	period := strings.Index(password[1:]+password, password) + 1
	times := len(password) / period
	password = password[:period]

	own = slices.Concat([]string{"warble"}, own)
	matches := append(runs(password), keyboardWalks(password)...)
	matches = append(matches, words(password, slices.Concat(dictionaries, []dictionary{dictionary(lower(strings.Join(own, "\n")))}))...)
	bits := scoring.MinimumEntropyMatchSequence(password, matches).Entropy + math.Log2(float64(times))
	return bits < guessable, nil
}

func loadDictionaries() ([]dictionary, error) {
	var all []dictionary
	for _, name := range []string{"Passwords", "English", "FemaleNames", "MaleNames", "Surnames"} {
		text, err := data.Asset("data/" + name + ".json")
		if err != nil {
			return nil, fmt.Errorf("load dictionary: %w", err)
		}
		var list struct{ List []string }
		if err := json.Unmarshal(text, &list); err != nil {
			return nil, fmt.Errorf("load dictionary %s: %w", name, err)
		}
		all = append(all, dictionary(lower(strings.Join(list.List, "\n"))))
	}
	return all, nil
}

// reading is one way to read a password as words, byte for byte.
type reading struct {
	text     string
	reversed bool
}

// The letters that l33t stands for, byte for byte. Ambiguous characters are read in both ways, but only one way at a time.
var (
	l33tAsI = strings.NewReplacer("4", "a", "@", "a", "8", "b", "(", "c", "{", "c", "[", "c", "<", "c", "3", "e", "6", "g",
		"9", "g", "1", "i", "!", "i", "|", "i", "0", "o", "$", "s", "5", "s", "+", "t", "7", "t", "%", "x", "2", "z")
	l33tAsL = strings.NewReplacer("1", "l", "7", "l", "|", "l")
)

// words finds the parts of password that are in a dictionary, also backwards and in l33t.
func words(password string, dictionaries []dictionary) []match.Match {
	plain := lower(password)
	readings := []reading{{plain, false}, {reverse(plain), true}}
	for _, text := range []string{l33tAsI.Replace(plain), l33tAsI.Replace(l33tAsL.Replace(plain))} {
		if text != plain {
			readings = append(readings, reading{text, false})
		}
	}

	type place struct{ reading, from int }
	index := map[string][]place{}
	for n, r := range readings {
		for from := range r.text {
			for to := from + minWord; to <= min(len(r.text), from+maxWord); to++ {
				index[r.text[from:to]] = append(index[r.text[from:to]], place{n, from})
			}
		}
	}
	var matches []match.Match
	for _, d := range dictionaries {
		rank := 0.0
		for word := range strings.SplitSeq(string(d), "\n") {
			rank++
			for _, p := range index[word] {
				matches = append(matches, readings[p.reading].match(password, p.from, p.from+len(word)-1, rank))
			}
		}
	}
	return matches
}

// match returns the match of a word with the given rank at text[i:j+1].
func (r reading) match(password string, i, j int, rank float64) match.Match {
	token := r.text[i : j+1]
	bits := 0.0
	if r.reversed {
		i, j = len(password)-1-j, len(password)-1-i
		bits = 1
	}
	m := match.Match{Pattern: "dictionary", I: i, J: j, Token: password[i : j+1]}
	m.Entropy = entropy.DictionaryEntropy(m, rank) + bits
	if !r.reversed && lower(m.Token) != token {
		m.Token = token
		m.Entropy += entropy.ExtraLeetEntropy(m, password)
	}
	return m
}

// runs finds three or more equal bytes (aaa) or neighbours (abc, 321) in a row.
func runs(password string) []match.Match {
	var matches []match.Match
	for i := 0; i+2 < len(password); {
		step := int(password[i+1]) - int(password[i])
		j := i + 1
		for j+1 < len(password) && int(password[j+1])-int(password[j]) == step {
			j++
		}
		if j-i >= 2 && step >= -1 && step <= 1 {
			m := match.Match{Pattern: "run", I: i, J: j, Token: password[i : j+1]}
			if step == 0 {
				m.Entropy = entropy.RepeatEntropy(m)
			} else {
				m.Entropy = entropy.SequenceEntropy(m, 26, step == 1)
			}
			matches = append(matches, m)
		}
		i = j
	}
	return matches
}

// keyboardWalks finds three or more characters in a row whose keys are neighbours on a QWERTY keyboard.
func keyboardWalks(password string) []match.Match {
	const nowhere = -1
	keys := adjacency.GraphMap["qwerty"].Graph
	var matches []match.Match
	for i := 0; i+1 < len(password); {
		j, turns, shifted, last := i, 0, 0, nowhere
		for ; j+1 < len(password); j++ {
			direction, shift := nowhere, false
			for n, key := range keys[password[j:j+1]] {
				if at := strings.IndexByte(key, password[j+1]); at >= 0 {
					direction, shift = n, at == 1
				}
			}
			if direction == nowhere {
				break
			}
			if shift {
				shifted++
			}
			if direction != last {
				turns++
			}
			last = direction
		}
		if j-i >= 2 {
			m := match.Match{Pattern: "spatial", DictionaryName: "qwerty", I: i, J: j, Token: password[i : j+1]}
			m.Entropy = entropy.SpatialEntropy(m, turns, shifted)
			matches = append(matches, m)
		}
		i = j + 1
	}
	return matches
}

// lower converts only ASCII letters to lower case, so that every byte keeps its position. The dictionaries have no other letters.
func lower(text string) string {
	bytes := []byte(text)
	for i, c := range bytes {
		if 'A' <= c && c <= 'Z' {
			bytes[i] = c + 'a' - 'A'
		}
	}
	return string(bytes)
}

// reverse reverses the bytes. This breaks letters outside ASCII, which then match nothing.
func reverse(text string) string {
	bytes := []byte(text)
	slices.Reverse(bytes)
	return string(bytes)
}
