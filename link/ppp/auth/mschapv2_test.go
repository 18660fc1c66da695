package auth

import (
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 2759, sections 9.2 and 9.3.
func TestRFC2759(t *testing.T) {
	x := msExchange{
		challenge:     unhex(t, "5B5D7C7D7B3F2F3E3C2C602132262628"),
		peerChallenge: unhex(t, "21402324255E262A28295F2B3A337C7E"),
		name:          "User",
	}
	domain := x
	domain.name = `CORP\User`
	secret := []byte("clientPass")
	response := x.ntResponse(secret)
	for _, test := range []struct {
		what string
		got  []byte
		want string
	}{
		{"challenge", x.hash(), "D02E4386BCE91226"},
		{"challenge of a name with a domain", domain.hash(), "D02E4386BCE91226"},
		{"password hash", ntHash(secret), "44EBBA8D5312B8D611474411F56989AE"},
		{"NT response", response, "82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"},
		{"authenticator response", x.authenticatorResponse(secret, response), "407A5589115FD0D6209F510FE9C04566932CDA56"},
		{"first DES key", desKey(unhex(t, "FC156AF7EDCD6C")), "FD0B5B5E7F6E34D9"},
		{"second DES key", desKey(unhex(t, "0EDDE3337D427F")), "0E6E796737EA08FE"},
	} {
		if got := strings.ToUpper(hex.EncodeToString(test.got)); got != test.want {
			t.Errorf("%s is %s, not %s", test.what, got, test.want)
		}
	}
}

// What a secret is made of that is not ASCII: UTF-8 if it can be, else Latin-1.
func TestSecretInUTF16(t *testing.T) {
	if got, want := ntHash([]byte("gr\xfcn")), ntHash([]byte("grün")); string(got) != string(want) {
		t.Errorf("Latin-1 hashes to %x, UTF-8 to %x", got, want)
	}
	if string(ntHash([]byte("gr\xfcn"))) == string(ntHash([]byte("gr\xfdn"))) {
		t.Error("two secrets with one hash")
	}
}

// The Response Value of RFC 1994, section 4.1; the digests by md5sum(1).
func TestCHAPMD5(t *testing.T) {
	for _, test := range []struct {
		id                byte
		secret, challenge string
		want              string
	}{
		{1, "secret", "0123456789abcdef", "1166c5a4d653b5f41cc0431512a91a1c"},
		{0x7f, "", "x", "0bb49d7cf21a7a611df5e434e4716d57"},
	} {
		if got := hex.EncodeToString(chapMD5(test.id, []byte(test.secret), []byte(test.challenge))); got != test.want {
			t.Errorf("id %d, secret %q, challenge %q: %s, not %s", test.id, test.secret, test.challenge, got, test.want)
		}
	}
}

func TestMSFailure(t *testing.T) {
	for _, test := range []struct{ message, meaning, text string }{
		{"E=691 R=1 C=000102030405060708090A0B0C0D0E0F V=0 M=Access denied", "authentication failure (E=691)", "Access denied"}, // pppd 2.4.9
		{"E=648 R=0 C=00 V=3", "password expired (E=648)", ""},
		{"E=42 R=0 M=no M=at all", "error (E=42)", "no M=at all"},
		{"R=1 E=691", "authentication failure (E=691)", ""},
		{"E=99999999999999999999 R=0", "", "E=99999999999999999999 R=0"},
		{"go away", "", "go away"},
		{"", "", ""},
		{string(msFailure([]byte{1, 2})), "authentication failure (E=691)", "Access denied"},
	} {
		meaning, text := parseMSFailure([]byte(test.message))
		if meaning != test.meaning || string(text) != test.text {
			t.Errorf("%q: %q, %q", test.message, meaning, text)
		}
	}
}

func TestMSSuccess(t *testing.T) {
	const proof = "407A5589115FD0D6209F510FE9C04566932CDA56"
	for _, test := range []struct {
		message, text string
		ok            bool
	}{
		{"S=" + proof + " M=Access granted", "Access granted", true},
		{"S=" + proof + "M=Access granted", "Access granted", true}, // pppd takes it too
		{"S=" + proof, "", true},
		{"S=" + strings.ToLower(proof), "", true},
		{"S=" + proof[1:], "", false},
		{"S=" + proof[1:] + "G", "", false},
		{"s=" + proof, "", false},
		{"", "", false},
		{string(msSuccess(unhex(t, proof))), "Access granted", true},
	} {
		got, text, ok := parseMSSuccess([]byte(test.message))
		if ok != test.ok || string(text) != test.text || ok && string(got) != string(unhex(t, proof)) {
			t.Errorf("%q: %X, %q, %v", test.message, got, text, ok)
		}
	}
}
