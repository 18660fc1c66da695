package ssh

import "testing"

func TestClient(t *testing.T) {
	for variable, want := range map[string]string{
		"192.0.2.1 40022 198.51.100.22 22": "192.0.2.1:40022",
		"2001:db8::1 40022 2001:db8::2 22": "[2001:db8::1]:40022",
		"":                                 "",
		"192.0.2.1 40022":                  "",
		"gw 40022 198.51.100.22 22":        "",
		"192.0.2.1 ssh 198.51.100.22 22":   "",
	} {
		t.Setenv("SSH_CONNECTION", variable)
		got, ok := Client()
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %v, %v", variable, got, ok)
		}
	}
}
