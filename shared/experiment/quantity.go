package experiment

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that is written as in Go, or as a number of days, at most 9999: 250ms, 24h, 7d. A file must not
// have 0s. Everything that the rule below accepts must be readable, because a single unreadable object would make a whole
// list unreadable.
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([0-9]+d|([0-9]+(\.[0-9]+)?(us|ms|s|m|h))+)$`
// +kubebuilder:validation:XValidation:rule="self.endsWith('d') ? self.matches('^0*[1-9][0-9]{0,3}d$') : duration(self) > duration('0s')",message="expected a duration above 0 and below 10000d"
type Duration time.Duration

// Percent is a relative amount, written in percent: 5% is 0.05.
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^[0-9]+(\.[0-9]+)?%$`
type Percent float64

// Points is a difference of shares, written in percentage points: 0.5pp is 0.005.
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^[0-9]+(\.[0-9]+)?pp$`
type Points float64

const day = 24 * time.Hour

func (d Duration) String() string {
	if whole := time.Duration(d); whole >= day && whole%day == 0 {
		return strconv.FormatInt(int64(whole/day), 10) + "d"
	}
	text := time.Duration(d).String() // 24h0m0s
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

func (d *Duration) UnmarshalJSON(text []byte) error {
	var written string
	if err := json.Unmarshal(text, &written); err == nil {
		if days, found := strings.CutSuffix(written, "d"); found {
			if n, err := strconv.ParseInt(days, 10, 16); err == nil && n < 10_000 {
				*d = Duration(time.Duration(n) * day)
				return nil
			}
		} else if value, err := time.ParseDuration(written); err == nil {
			*d = Duration(value)
			return nil
		}
	}
	return fmt.Errorf("%s: expected a duration such as 250ms, 24h or 7d", text)
}

func (p Percent) String() string { return percent(float64(p)) + "%" }

func (p Percent) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

func (p *Percent) UnmarshalJSON(text []byte) error {
	return parseShare(text, "%", "a percentage such as 5%", (*float64)(p))
}

func (p Points) String() string { return percent(float64(p)) + "pp" }

func (p Points) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

func (p *Points) UnmarshalJSON(text []byte) error {
	return parseShare(text, "pp", "percentage points such as 0.5pp", (*float64)(p))
}

// percent writes a share in percent, with at most 10 decimals. Without this limit 0.07 would be written as 7.000000000000001.
func percent(share float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(100*share, 'f', 10, 64), "0"), ".")
}

func parseShare(text []byte, suffix, expected string, share *float64) error {
	var written string
	if err := json.Unmarshal(text, &written); err == nil {
		if number, found := strings.CutSuffix(written, suffix); found {
			// The decimal point is moved in the text, before the conversion to binary, so that 33.3% is exactly the number 0.333.
			if value, err := strconv.ParseFloat(number+"e-2", 64); err == nil {
				*share = value
				return nil
			}
		}
	}
	return fmt.Errorf("%s: expected %s", text, expected)
}
