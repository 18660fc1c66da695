package story

import (
	"bytes"
	"testing"
)

func TestTeller(t *testing.T) {
	var out bytes.Buffer
	tell := newTeller(&out)
	tell.chapter("One")
	tell.prompt("cmd")
	tell.output("plain\ttext \x1b[31mred\x07 \u202e")
	tell.output("")
	tell.verdict("cmd", "", "")
	tell.verdict("cmd", "it failed", "never said")
	tell.check(true, "fact", "never said")
	tell.check(false, "no fact", "detail")
	tell.bar("a", 1e9/8, 2e9/8)
	const want = `
1. One

  me@laptop$ cmd
    plain text [31mred 
    ok as it should be
    !! it failed
    ok fact
    !! no fact
    detail
  a                            ###############                1000 Mbit/s
`
	if got := out.String(); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if tell.steps != 4 || len(tell.disappointments) != 2 {
		t.Errorf("%d steps, disappointments %q", tell.steps, tell.disappointments)
	}
}
