package lab

import (
	"net/netip"
	"slices"
	"testing"
)

// The trace holds what the shell read, and neither what a child read nor what a
// program in its place did.
func TestTraceShell(t *testing.T) {
	l := closedLab(t)
	shell, err := l.Gateway.TraceShell("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	telnetd, err := l.Gateway.Telnetd(t.Context(), TelnetdOptions{Port: 2600, Password: "sesame", Shell: shell})
	if err != nil {
		t.Fatal(err)
	}
	defer telnetd.Close()
	for _, last := range []string{"exec sh -c 'echo rea''dy; exec cat'", "sh -c 'echo rea''dy; exec cat'"} {
		y := typistAt(t, l.Gateway, netip.AddrPortFrom(Gateway4, 2600))
		y.see("login: ")
		y.types("me")
		y.see("assword: ")
		y.types("sesame")
		y.see("$ ")
		y.types("head -n 1")
		y.see("head -n 1\r\n")
		y.types("for the child")
		y.see("$ ")
		y.types(last)
		y.see("ready\r\n")
		y.types("not for the shell")
		y.see("not for the shell\r\nnot for the shell\r\n") // echoed, and then by cat
		y.conn.Close()
	}
	got, err := l.Gateway.Traces()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"head -n 1\nexec sh -c 'echo rea''dy; exec cat'\n",
		"head -n 1\nsh -c 'echo rea''dy; exec cat'\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the shells read %q, want %q", got, want)
	}
}
