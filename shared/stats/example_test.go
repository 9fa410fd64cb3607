package stats_test

import (
	"fmt"

	"warble/shared/stats"
)

// A readout starts from the sums that SQL computed per arm. It estimates the effect, and its interval at this look.
func Example() {
	control := stats.Moments{N: 3407, Sum: 1396.87, SumSq: 5237.79767}
	treatment := stats.Moments{N: 3461, Sum: 2422.7, SumSq: 13469.829}
	sequence := stats.Sequence{Planned: 10_000, Alpha: .05} // fixed at the start

	a, err := control.Mean()
	if err != nil {
		panic(err)
	}
	b, err := treatment.Mean()
	if err != nil {
		panic(err)
	}
	difference, err := stats.Difference(a, b)
	if err != nil {
		panic(err)
	}
	interval, err := sequence.Interval(difference)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%.3f per user, from %.3f to %.3f at any look\n", difference.Value, interval.Lower, interval.Upper)

	ratio, err := stats.LogRatio(a, b)
	if err != nil {
		panic(err) // a readout omits the lift if errors.Is(err, stats.ErrUnstable)
	}
	if interval, err = sequence.Interval(ratio); err != nil {
		panic(err)
	}
	lift := interval.Expm1()
	fmt.Printf("that is %+.0f %% to %+.0f %%\n", 100*lift.Lower, 100*lift.Upper)
	// Output:
	// 0.290 per user, from 0.177 to 0.403 at any look
	// that is +39 % to +109 %
}
