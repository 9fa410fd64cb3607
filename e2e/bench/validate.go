package main

import "context"

// validate compares repeated tokens with a bare program, and tokens that never repeat with a bare program that verifies one Ed25519 signature.
// That is plain ed25519.Verify, which does less than any JWT library.
func (b *bench) validate(ctx context.Context) (figures []figure, err error) {
	claims := request{Method: "GET", Path: "/auth/validate"}
	err = b.withServers(ctx, func(running map[string]*server) error {
		repeat := func(name string) contestant { return b.saturate(running[name], claims).throughput }
		rows, err := interleave(ctx, b.rounds, repeat("validate"), repeat("hello"))
		if err != nil {
			return err
		}
		figures = append(figures, ratioAtLeast(0.5).figure("validate, tokens repeat / hello", "1/s", rows[0], rows[1]))

		fresh := func(name string) contestant {
			l := b.saturate(running[name], claims)
			l.Distinct = users
			return func(ctx context.Context) (float64, error) {
				o, err := l.run(ctx)
				l.Skip += o.Sent // the next round goes on where this one ended
				return float64(o.Counted) / l.Time.Seconds(), err
			}
		}
		rows, err = interleave(ctx, b.rounds, fresh("validate"), fresh("verify"))
		if err != nil {
			return err
		}
		figures = append(figures, ratioAtLeast(0.8).figure("validate, tokens never repeat / hello + verify", "1/s", rows[0], rows[1]))
		return nil
	}, "validate", "hello", "verify")
	return figures, err
}
