package e2e_test

import (
	"strings"

	"github.com/bodkin-net/bodkin/lab"
)

// pair makes a key for the account me on the laptop and one on the gateway, and has
// each known to the other, the gateway by the names.
func (w *world) pair(names ...string) {
	w.t.Helper()
	near, far := w.newKey(w.Laptop), w.newKey(w.Gateway)
	w.write(w.Laptop, "/home/me/.config/bodkin/known_servers", strings.Join(names, ",")+" "+far, "me")
	w.write(w.Gateway, "/home/me/.config/bodkin/authorized_clients", near, "me")
}

// newKey makes a key as somebody does who has no bodkin there, and returns its public
// half as a line.
func (w *world) newKey(m *lab.Machine) string {
	w.t.Helper()
	for _, args := range [][]string{
		{"mkdir", "-p", "-m", "700", "/home/me/.config/bodkin"},
		{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/home/me/.config/bodkin/key"},
	} {
		if r := w.on(m, "me", args[0], args[1:]...); r.status != 0 {
			w.t.Fatalf("%q on %s: exit status %d\n%s", args, m.Name, r.status, r.out)
		}
	}
	public, err := m.ReadFile("/home/me/.config/bodkin/key.pub")
	if err != nil {
		w.t.Fatal(err)
	}
	return string(public)
}
