package pppd

import (
	"os"
	"strings"
	"testing"
)

// TestManual: the manual names every option, where it belongs.
func TestManual(t *testing.T) {
	b, err := os.ReadFile("../../docs/ppp.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(b), "\nAccepted:\n")
	parts := strings.SplitN(strings.ReplaceAll(list, "\nRefused, ", "\nIgnored, "), "\nIgnored, ", 3)
	if len(parts) != 3 {
		t.Fatal("the manual has no lists of options")
	}
	for _, o := range table {
		if !strings.Contains(parts[o.way], "`"+o.name+"`") {
			t.Errorf("%s is missing from the manual", o.name)
		}
	}
}
