package trust

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// A Key is a machine's own key pair.
type Key struct {
	Private ed25519.PrivateKey
}

// Public returns the half that others are told.
func (k Key) Public() ed25519.PublicKey { return k.Private.Public().(ed25519.PublicKey) }

// A Passphrase asks the user for the passphrase of a key; question says which.
type Passphrase func(ctx context.Context, question string) (string, error)

// ErrPassphrase is that a passphrase does not open a key, or that there was nobody to
// ask for it.
var ErrPassphrase = errors.New("the passphrase is wrong")

// tries is how often a passphrase is asked for, as by ssh.
const tries = 3

// Generate makes a key.
func Generate() Key {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // the system's random numbers do not fail (crypto/rand)
	}
	return Key{private}
}

// Load reads a private key as ssh-keygen -t ed25519 writes it. The file must be ours and
// closed to all others, else it is an *UnsafeError. ask is called, three times at most,
// if the key has a passphrase; it may be nil.
func Load(ctx context.Context, file string, ask Passphrase) (Key, error) {
	text, err := readFile(file, private)
	if err != nil {
		return Key{}, err
	}
	raw, err := ssh.ParseRawPrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if ask == nil {
			return Key{}, fmt.Errorf("trust: %s has a passphrase, and there is nobody to ask for it: %w", file, ErrPassphrase)
		}
		raw, err = unlock(ctx, file, text, ask)
	}
	if err != nil {
		return Key{}, keyError(file, err)
	}
	return checkKey(file, raw)
}

// unlock opens a key that has a passphrase.
func unlock(ctx context.Context, file string, text []byte, ask Passphrase) (raw any, err error) {
	for range tries {
		phrase, err := ask(ctx, "Passphrase for "+file)
		if err != nil {
			return nil, err
		}
		if phrase == "" {
			continue // no key has this one
		}
		raw, err = ssh.ParseRawPrivateKeyWithPassphrase(text, []byte(phrase))
		if err == nil || !errors.Is(err, x509.IncorrectPasswordError) {
			return raw, err
		}
	}
	return nil, ErrPassphrase
}

// keyError says of which file err is.
func keyError(file string, err error) error { return fmt.Errorf("trust: %s: %w", file, err) }

// checkKey takes Ed25519 alone, and both its halves only if they are one key: a
// signature with two that are not would give the private one away.
func checkKey(file string, raw any) (Key, error) {
	k, ok := raw.(*ed25519.PrivateKey)
	if !ok || len(*k) != ed25519.PrivateKeySize {
		return Key{}, fmt.Errorf("trust: %s: it is not an Ed25519 key (ssh-keygen -t ed25519 makes one)", file)
	}
	whole := ed25519.NewKeyFromSeed(k.Seed())
	if !same(whole.Public().(ed25519.PublicKey), k.Public().(ed25519.PublicKey)) {
		return Key{}, fmt.Errorf("trust: %s: its public half belongs to another key", file)
	}
	return Key{whole}, nil
}

// LoadPublic reads the public half out of a private key's file, without a passphrase
// even if it has one, and says whether it has.
func LoadPublic(file string) (key ed25519.PublicKey, locked bool, err error) {
	text, err := readFile(file, private)
	if err != nil {
		return nil, false, err
	}
	raw, err := ssh.ParseRawPrivateKey(text)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) && missing.PublicKey != nil {
		key, _, err := ParsePublic(string(ssh.MarshalAuthorizedKey(missing.PublicKey)))
		return key, true, err
	}
	if err != nil {
		return nil, false, keyError(file, err)
	}
	k, err := checkKey(file, raw)
	if err != nil {
		return nil, false, err
	}
	return k.Public(), false, nil
}

// Save writes the key to a file that is not there yet, in OpenSSH's format, for us
// alone, and its directory if need be. passphrase may be empty. A file that is there is
// left as it is: the error is fs.ErrExist.
func (k Key) Save(file, comment, passphrase string) error {
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(k.Private, comment)
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(k.Private, comment, []byte(passphrase))
	}
	if err != nil {
		return keyError(file, err)
	}
	return createFile(file, pem.EncodeToMemory(block))
}
