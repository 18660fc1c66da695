package auth

import "testing"

// The two figures of a protocol are to be as good as equal: who is known must not
// show in how long the answer takes.
func BenchmarkRefusal(b *testing.B) {
	for _, p := range protocols {
		for what, known := range map[string]SecretFunc{"wrong secret": secrets("me gw sesame"), "unknown name": secrets("you gw sesame")} {
			b.Run(p.String()+"/"+what, func(b *testing.B) {
				m := NewProver(p, "me", "gw", secrets("me gw guess"), nil)
				fresh := NewAuthenticator(p, "gw", "", known, nil)
				request := m.Start()
				if challenge := fresh.Start(); challenge != nil {
					request, _ = m.Receive(challenge)
				}
				for b.Loop() {
					a := *fresh
					if _, v := a.Receive(request); v != Failure {
						b.Fatal(a.Reason())
					}
				}
			})
		}
	}
}
