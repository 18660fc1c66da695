package lab

import (
	"strings"
	"testing"
)

func TestLoginAndNothingElse(t *testing.T) {
	l, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := l.Laptop.Command(t.Context(), "ssh", "gw", "id", "-u").As("me").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "1001" {
		t.Errorf("ssh gw id -u: %v: %s", err, out)
	}
	if leaks := l.Leaks(); len(leaks) != 0 {
		t.Errorf("leaks: %q", leaks)
	}
}
