package figures_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/figures"
)

func TestFigures(t *testing.T) {
	t.Parallel()
	low, high := -1.0, 2.0
	got := []string{
		figures.Whole(12034), figures.Count(1, "community"), figures.Count(0, "community"), figures.Count(2, "user"), figures.Count(2, "day"),
		figures.Decimal(0), figures.Decimal(1234.5), figures.Decimal(8.0764), figures.Decimal(-0.01234), figures.Decimal(99.96), figures.Decimal(0.00001234),
		figures.Signed(1.5), figures.Signed(-1.5), figures.Percent(.0123), figures.Percent(.5), figures.Percent(-.000001), figures.Change(.0412), figures.Change(-.2), figures.Change(-.0001),
		figures.Points(.005), figures.Points(.01), figures.P(.00001), figures.P(.00051), figures.P(.0312),
		figures.Range(&low, &high, figures.Signed), figures.Range(&low, nil, figures.Signed), figures.Range(nil, &high, figures.Signed), figures.Range(nil, nil, figures.Signed),
	}
	want := []string{
		"12,034", "1 community", "0 communities", "2 users", "2 days",
		"0", "1,235", "8.08", "-0.0123", "100.0", "1.2e-05",
		"+1.50", "-1.50", "1.23%", "50%", "0%", "+4.1%", "-20.0%", "0.0%",
		"0.5 points", "1 point", "<0.0001", "0.0005", "0.031",
		"-1.00 to +2.00", "-1.00 or more", "+2.00 or less", "not known",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
